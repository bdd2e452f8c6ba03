"""Partial fine-tuning: how far the last n blocks alone get."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from backbones.base.monitor import Monitor, SilentMonitor
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from backbones.training.held import Held
from benchmarks.by_image.classified import predictions_of
from benchmarks.labelled.task import LabelledTask, published_on_imagenet
from benchmarks.labelled.tuning.config import finetune_workload
from benchmarks.seed_floors import PARTIAL_FLOORS
from benchmarks.task import Facts, TaskInputs, TaskResult, Workload, percentages
from benchmarks.tasks.partial.recipes import PARTIAL_RECIPES, PartialConfig


class PartialTask(LabelledTask):
    """The task; see ``benchmarks.task.Task`` for what each part means."""

    name = "partial"
    version = 1
    headline = "partial1_top1"
    seed_floors = PARTIAL_FLOORS
    columns = (
        "partial1_top1",
        "partial0_top1",
        "partial_half_top1",
        "partial4_top1",
        "partial_all_top1",
    )
    metrics = percentages(*columns)
    choices: ClassVar[Mapping[str, Callable[[], Any]]] = PARTIAL_RECIPES
    defaults = ("partial-mini", "partial")
    distributed = True
    image_file = predictions_of("partial")
    trains = True
    # As for the linear probe, which is its first point.
    published = published_on_imagenet(tolerance=0.3)

    def held(self, config: PartialConfig, backbone: BackboneSpec) -> Held:
        """Return how many images a device may hold at once."""
        return config.training().held(backbone)

    def workload(self, config: PartialConfig, facts: Facts, limit_images: int | None) -> Workload:
        """Return what ``config`` comes to where the backbone has all of its points."""
        return finetune_workload(config, facts, limit_images, len(config.blocks))

    def try_out(self, backbone: BackboneSpec, checkpoint: Checkpoint, folder: Path) -> str:
        """Train the head alone and the last block, an epoch each."""
        inputs = self.try_out_inputs(backbone, checkpoint, folder)
        schedule = replace(
            inputs.config.schedule, epochs=1.0, batch_size=10, batch_size_per_device=10
        )
        config = replace(inputs.config, schedule=schedule, blocks=(0.0, 1.0))
        self.run(replace(inputs, config=config), SilentMonitor())
        return "fine-tuned no block and one"

    def run(self, inputs: TaskInputs, monitor: Monitor) -> TaskResult:
        """Train and test, once for each number of blocks."""
        # torch comes in here, so that planning does without it.
        from benchmarks.tasks.partial.work import run_partial

        return run_partial(inputs, monitor)


TASK = PartialTask()
