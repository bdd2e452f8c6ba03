"""Mask R-CNN on COCO-format data."""

from benchmarks.tasks.coco.task import TASK

__all__ = ["TASK"]
