"""Region correspondence."""

from benchmarks.tasks.correspondence.task import TASK

__all__ = ["TASK"]
