"""k-NN classification on frozen features."""

from benchmarks.tasks.knn.task import TASK

__all__ = ["TASK"]
