"""Classification from few labels."""

from benchmarks.tasks.lowshot.task import TASK

__all__ = ["TASK"]
