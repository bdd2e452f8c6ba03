"""Pretraining as a task."""

from benchmarks.tasks.pretrain.task import TASK

__all__ = ["TASK"]
