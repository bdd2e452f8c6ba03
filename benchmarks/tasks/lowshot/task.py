"""Classification from 1 % and 10 % of the labels, on frozen features."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from backbones.base.monitor import Monitor, SilentMonitor
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from benchmarks.by_image.classified import predictions_of
from benchmarks.labelled.task import LabelledTask
from benchmarks.seed_floors import LOWSHOT_FLOORS
from benchmarks.task import Metric, TaskInputs, TaskResult
from benchmarks.tasks.lowshot.recipes import LOWSHOT_RECIPES, SHARES


class LowshotTask(LabelledTask):
    """The task; see ``benchmarks.task.Task`` for what each part means."""

    name = "lowshot"
    version = 1
    headline = "lowshot1_top1"
    seed_floors = LOWSHOT_FLOORS
    columns = ("lowshot1_top1", "lowshot10_top1", "lowshot1_top5", "lowshot10_top5")
    metrics: Mapping[str, Metric] = {
        f"{share}_{score}": Metric() for share in SHARES for score in ("top1", "top5", "mean_class")
    }
    choices: ClassVar[Mapping[str, Callable[[], Any]]] = LOWSHOT_RECIPES
    defaults = ("lowshot-mini", "lowshot")
    on_features = True
    image_file = predictions_of("lowshot")

    def try_out(self, backbone: BackboneSpec, checkpoint: Checkpoint, folder: Path) -> str:
        """Fit regressions to a few of twenty images and test them on twenty."""
        inputs = self.try_out_inputs(backbone, checkpoint, folder)
        result = self.run(inputs, SilentMonitor())
        return f"fitted {', '.join(result.details['chosen'])}"

    def run(self, inputs: TaskInputs, monitor: Monitor) -> TaskResult:
        """Extract, fit and test."""
        # torch comes in here, so that planning does without it.
        from benchmarks.tasks.lowshot.work import run_lowshot

        return run_lowshot(inputs, monitor)


TASK = LowshotTask()
