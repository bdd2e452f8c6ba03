"""k-NN classification on frozen features: no training, nothing to tune."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from backbones.base.monitor import Monitor, SilentMonitor
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from benchmarks.by_image.classified import predictions_of
from benchmarks.labelled.task import LabelledTask, published_on_imagenet
from benchmarks.seed_floors import KNN_FLOORS
from benchmarks.task import TaskInputs, TaskResult, percentages
from benchmarks.tasks.knn.recipes import KNN_RECIPES


class KnnTask(LabelledTask):
    """The task; see ``benchmarks.task.Task`` for what each part means."""

    name = "knn"
    version = 1
    headline = "knn_top1"
    seed_floors = KNN_FLOORS
    columns = ("knn_top1", "knn_top5")
    metrics = percentages("knn_top1", "knn_top5", "knn_mean_class", "knn_real")
    choices: ClassVar[Mapping[str, Callable[[], Any]]] = KNN_RECIPES
    defaults = ("knn-mini", "knn")
    on_features = True
    image_file = predictions_of("knn")
    # k-NN draws nothing at random: a printed figure is rounded to 0.1, and images are decoded by
    # other libraries.
    published = published_on_imagenet(tolerance=0.2)
    predictor = "k-NN"

    def try_out(self, backbone: BackboneSpec, checkpoint: Checkpoint, folder: Path) -> str:
        """Classify twenty images by twenty others."""
        inputs = self.try_out_inputs(backbone, checkpoint, folder)
        result = self.run(inputs, SilentMonitor())
        return f"classified with {', '.join(result.details['features'])}"

    def run(self, inputs: TaskInputs, monitor: Monitor) -> TaskResult:
        """Extract and vote."""
        # torch comes in here, so that planning does without it.
        from benchmarks.tasks.knn.work import run_knn

        return run_knn(inputs, monitor)


TASK = KnnTask()
