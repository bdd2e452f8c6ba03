"""Fine-tuning: backbone and classifier trained together on labelled images."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from backbones.base.monitor import Monitor, SilentMonitor
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from backbones.training.held import Held
from benchmarks.by_image.classified import predictions_of
from benchmarks.data.roots import DataRoot
from benchmarks.labelled.task import LabelledTask, published_on_imagenet
from benchmarks.labelled.tuning.config import FinetuneConfig, finetune_workload
from benchmarks.seed_floors import FINETUNE_FLOORS
from benchmarks.task import Facts, TaskInputs, TaskResult, Workload, percentages
from benchmarks.tasks.finetune.recipes import FINETUNE_RECIPES, recipe_for


class FinetuneTask(LabelledTask):
    """The task; see ``benchmarks.task.Task`` for what each part means."""

    name = "finetune"
    version = 1
    headline = "finetune_top1"
    seed_floors = FINETUNE_FLOORS
    columns = ("finetune_top1", "finetune_top5")
    metrics = percentages("finetune_top1", "finetune_top5", "finetune_mean_class", "finetune_real")
    choices: ClassVar[Mapping[str, Callable[[], Any]]] = FINETUNE_RECIPES
    defaults = ("finetune-mini", "finetune-vit-b16")
    distributed = True
    image_file = predictions_of("finetune")
    trains = True
    # More than twice the scatter of MAE's four seeds (0.08, facebookresearch/mae FINETUNE.md).
    published = published_on_imagenet(tolerance=0.2)
    predictor = "fine-tuning"

    def default_recipe(self, backbone: BackboneSpec, data: DataRoot) -> str:
        """Return the recipe for the mini data, or that of the backbone's family and depth."""
        return self.defaults[0] if data.mini else recipe_for(backbone.layout, backbone.num_layers)

    def held(self, config: FinetuneConfig, backbone: BackboneSpec) -> Held:
        """Return how many images a device may hold at once."""
        return config.training().held(backbone)

    def workload(self, config: FinetuneConfig, facts: Facts, limit_images: int | None) -> Workload:
        """Return what ``config`` comes to."""
        return finetune_workload(config, facts, limit_images)

    def try_out(self, backbone: BackboneSpec, checkpoint: Checkpoint, folder: Path) -> str:
        """Train two epochs on twenty images and test on twenty."""
        inputs = self.try_out_inputs(backbone, checkpoint, folder)
        schedule = replace(
            inputs.config.schedule, epochs=2.0, batch_size=10, batch_size_per_device=10
        )
        small = replace(inputs, config=replace(inputs.config, schedule=schedule))
        result = self.run(small, SilentMonitor())
        losses = ", ".join(f"{loss:.2f}" for loss in result.curves["loss"])
        return f"fine-tuned (loss {losses}) and tested"

    def run(self, inputs: TaskInputs, monitor: Monitor) -> TaskResult:
        """Train and test."""
        # torch comes in here, so that planning does without it.
        from benchmarks.tasks.finetune.work import run_finetune

        return run_finetune(inputs, monitor)


TASK = FinetuneTask()
