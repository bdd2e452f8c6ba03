"""The region probe: what frozen maps know about single objects."""

from benchmarks.tasks.regions.task import TASK

__all__ = ["TASK"]
