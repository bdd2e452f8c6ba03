"""Nearest class mean on frozen features (Mensink et al. 2013, section 3.1)."""

from dataclasses import dataclass, field

from backbones.base.monitor import Monitor
from backbones.base.sections import Recipe
from benchmarks.by_image.classified import predictions_of
from benchmarks.labelled.config import MINI_DATA, CentralViewConfig, ExtractionConfig, FeatureKind
from benchmarks.labelled.task import LabelledTask
from benchmarks.seed_floors import ANY_PROTOCOL, SeedFloor
from benchmarks.task import TaskInputs, TaskResult, percentages


@dataclass(frozen=True)
class CentroidConfig(Recipe):
    """A classification by class means.

    Attributes:
        features: Kind of features, see ``benchmarks.labelled.features``.
    """

    protocol: str = "centroid/v1"
    data: CentralViewConfig = field(default_factory=CentralViewConfig)
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    features: FeatureKind = "pooled"


def centroid() -> CentroidConfig:
    """Nearest class mean with cosine similarity. Cost: one forward pass over both splits."""
    return CentroidConfig()


def centroid_mini() -> CentroidConfig:
    """The same on views of 64 pixels, for the embedded mini data."""
    return CentroidConfig(protocol="centroid-mini/v1", data=MINI_DATA)


RECIPES = {"centroid": centroid, "centroid-mini": centroid_mini}


class CentroidTask(LabelledTask):
    """The task; see ``benchmarks.task.Task`` for what each part means."""

    name = "centroid"
    version = 1
    headline = "centroid_top1"
    columns = ("centroid_top1", "centroid_top5")
    metrics = percentages(*columns, "centroid_mean_class")
    choices = RECIPES
    defaults = ("centroid-mini", "centroid")
    on_features = True
    image_file = predictions_of("centroid")
    seed_floors = {ANY_PROTOCOL: SeedFloor(0.0, "nothing is drawn at random for loaded weights")}
    predictor = "the nearest class mean"

    def run(self, inputs: TaskInputs, monitor: Monitor) -> TaskResult:
        """Extract features, classify, score."""
        # torch comes in here, so that planning does without it.
        from benchmarks.tasks.centroid.work import run_centroid

        return run_centroid(inputs, monitor)


TASK = CentroidTask()
