"""Region correspondence: does a backbone find the same place again in another view?"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from backbones.base.monitor import Monitor, SilentMonitor
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from benchmarks.labelled.regions.config import RegionConfig, look_workload
from benchmarks.labelled.task import LabelledTask
from benchmarks.seed_floors import CORRESPONDENCE_FLOORS
from benchmarks.task import Facts, Metric, TaskInputs, TaskResult, Workload
from benchmarks.tasks.correspondence.by_image import IMAGE_FILE
from benchmarks.tasks.correspondence.recipes import CORRESPONDENCE_RECIPES


class CorrespondenceTask(LabelledTask):
    """The task; see ``benchmarks.task.Task`` for what each part means."""

    name = "correspondence"
    version = 1
    headline = "correspondence_accuracy"
    seed_floors = CORRESPONDENCE_FLOORS
    reads_maps = True
    columns = ("correspondence_accuracy", "correspondence_distance")
    metrics: Mapping[str, Metric] = {
        "correspondence_accuracy": Metric(),
        "correspondence_distance": Metric(unit="pixels", higher_is_better=False),
    }
    choices: ClassVar[Mapping[str, Callable[[], Any]]] = CORRESPONDENCE_RECIPES
    defaults = ("correspondence-mini", "correspondence")
    image_file = IMAGE_FILE
    predictor = "region correspondence"

    def workload(self, config: RegionConfig, facts: Facts, limit_images: int | None) -> Workload:
        """Return what ``config`` comes to: forward passes over test images."""
        return look_workload(config, facts, limit_images, views=2)

    def try_out(self, backbone: BackboneSpec, checkpoint: Checkpoint, folder: Path) -> str:
        """Match the regions of twenty images."""
        inputs = self.try_out_inputs(backbone, checkpoint, folder)
        result = self.run(inputs, SilentMonitor())
        return f"matched {result.details['regions']} regions an image"

    def run(self, inputs: TaskInputs, monitor: Monitor) -> TaskResult:
        """Look and draw."""
        # torch comes in here, so that planning does without it.
        from benchmarks.tasks.correspondence.work import run_correspondence

        return run_correspondence(inputs, monitor)


TASK = CorrespondenceTask()
