"""The linear probe."""

from benchmarks.tasks.linear.task import TASK

__all__ = ["TASK"]
