"""Fine-tuning."""

from benchmarks.tasks.finetune.task import TASK

__all__ = ["TASK"]
