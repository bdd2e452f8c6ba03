"""The linear probe: one layer on frozen features."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from backbones.base.monitor import Monitor, SilentMonitor
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from benchmarks.by_image.classified import predictions_of
from benchmarks.labelled.task import LabelledTask, Passes, published_on_imagenet
from benchmarks.seed_floors import LINEAR_FLOORS
from benchmarks.task import TaskInputs, TaskResult, percentages
from benchmarks.tasks.linear.recipes import LINEAR_RECIPES, LinearConfig


class LinearTask(LabelledTask):
    """The task; see ``benchmarks.task.Task`` for what each part means."""

    name = "linear"
    version = 1
    headline = "linear_top1"
    seed_floors = LINEAR_FLOORS
    columns = ("linear_top1", "linear_top5")
    metrics = percentages("linear_top1", "linear_top5", "linear_mean_class", "linear_real")
    choices: ClassVar[Mapping[str, Callable[[], Any]]] = LINEAR_RECIPES
    defaults = ("linear-mini", "linear")
    on_features = True
    image_file = predictions_of("linear")
    # MAE's own two implementations are 0.2 apart (facebookresearch/mae FINETUNE.md).
    published = published_on_imagenet(tolerance=0.3)
    predictor = "the linear probe"

    def passes(self, config: LinearConfig) -> Passes:
        """Return how often a recipe shows the backbone each image."""
        return Passes(train=1 + min(config.augment.views, config.schedule.epochs))

    def try_out(self, backbone: BackboneSpec, checkpoint: Checkpoint, folder: Path) -> str:
        """Train all heads on twenty images and test the best on twenty."""
        inputs = self.try_out_inputs(backbone, checkpoint, folder)
        result = self.run(inputs, SilentMonitor())
        return (
            f"trained {result.details['num_heads']} heads on {result.details['chosen']['features']}"
        )

    def run(self, inputs: TaskInputs, monitor: Monitor) -> TaskResult:
        """Extract, train and choose."""
        # torch comes in here, so that planning does without it.
        from benchmarks.tasks.linear.work import run_linear

        return run_linear(inputs, monitor)


TASK = LinearTask()
