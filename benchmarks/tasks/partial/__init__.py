"""Partial fine-tuning."""

from benchmarks.tasks.partial.task import TASK

__all__ = ["TASK"]
