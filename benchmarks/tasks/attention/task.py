"""Attention statistics: how sharp attention is and how far it reaches, by block and head."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from backbones.base.monitor import Monitor, SilentMonitor
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from benchmarks.labelled.regions.config import RegionConfig, look_workload
from benchmarks.labelled.task import LabelledTask
from benchmarks.seed_floors import ATTENTION_FLOORS
from benchmarks.task import Facts, Metric, TaskInputs, TaskResult, Workload
from benchmarks.tasks.attention.recipes import ATTENTION_RECIPES


class AttentionTask(LabelledTask):
    """The task; see ``benchmarks.task.Task`` for what each part means."""

    name = "attention"
    version = 1
    headline = "attention_distance"
    seed_floors = ATTENTION_FLOORS
    columns = ("attention_distance", "attention_entropy")
    # Neither is better: the direction only sorts the table.
    metrics: Mapping[str, Metric] = {
        "attention_distance": Metric(unit="pixels"),
        "attention_entropy": Metric(unit="nats", decimals=2),
    }
    choices: ClassVar[Mapping[str, Callable[[], Any]]] = ATTENTION_RECIPES
    defaults = ("attention-mini", "attention")

    def workload(self, config: RegionConfig, facts: Facts, limit_images: int | None) -> Workload:
        """Return what ``config`` comes to: forward passes over test images."""
        return look_workload(config, facts, limit_images, views=1)

    def try_out(self, backbone: BackboneSpec, checkpoint: Checkpoint, folder: Path) -> str:
        """Watch attention on twenty images."""
        inputs = self.try_out_inputs(backbone, checkpoint, folder)
        result = self.run(inputs, SilentMonitor())
        if not result.curves:
            return "; ".join(result.warnings)
        return f"watched {len(result.curves['step'])} blocks"

    def run(self, inputs: TaskInputs, monitor: Monitor) -> TaskResult:
        """Look and draw."""
        # torch comes in here, so that planning does without it.
        from benchmarks.tasks.attention.work import run_attention

        return run_attention(inputs, monitor)


TASK = AttentionTask()
