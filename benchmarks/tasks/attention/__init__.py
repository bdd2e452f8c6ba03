"""Attention statistics."""

from benchmarks.tasks.attention.task import TASK

__all__ = ["TASK"]
