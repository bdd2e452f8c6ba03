"""Results files of detectors that were run elsewhere, scored as COCO scores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from backbones.base.sections import Recipe
from backbones.base.values import Name
from benchmarks.annotated.detected import (
    COCO_COLUMNS,
    COCO_HEADLINE,
    COCO_METRICS,
    MATCHED_IMAGES,
)
from benchmarks.annotated.task import Annotated
from benchmarks.data.mini import MINI_SHA256, mini_data
from benchmarks.data.mini.coco import NUM_IMAGES
from benchmarks.data.roots import DataRoot, find_coco_root
from benchmarks.seed_floors import EXTERNAL_FLOORS
from benchmarks.task import EXTERNAL, Facts
from detection.data.dataset import CocoData, Split, Truth
from detection.scoring.results.truth import ScoringTruth, find_truth, read_truth


@dataclass(frozen=True)
class ExternalConfig(Recipe):
    """How a results file is scored.

    Attributes:
        boxes_only: Leave its masks out.
    """

    protocol: Name = "external/v1"
    boxes_only: bool = False


def external() -> ExternalConfig:
    """Score detections that another program wrote, with COCO's evaluation.

    `run.py score` reads them from a results file (docs/scoring.md). Nothing is known of the
    detector or its training, so that these rows are never ranked with rows that were measured here.
    """
    return ExternalConfig()


def external_boxes() -> ExternalConfig:
    """Score the boxes of such detections only, as `run.py score --boxes-only` does."""
    return ExternalConfig(boxes_only=True)


RECIPES = {"external": external, "external-boxes": external_boxes}


class External(Annotated):
    """The measurement; see ``benchmarks.task.Measurement`` for what each part means.

    The data are the validation images only: their annotations decide the numbers, so that neither
    the images nor training data have to be there.
    """

    name = EXTERNAL
    version = 1
    headline = COCO_HEADLINE
    columns = COCO_COLUMNS
    metrics = COCO_METRICS
    image_file = MATCHED_IMAGES
    seed_floors = EXTERNAL_FLOORS

    def find_data(self, given: Mapping[str, Path]) -> DataRoot:
        """Return where the annotations lie."""
        return find_coco_root(given)

    def read_facts(self, data: DataRoot, cache: Path) -> Facts:
        """Return the identity of the annotations; the mini data need not exist yet."""
        del cache
        if data.mini:
            return Facts(MINI_SHA256, 0, NUM_IMAGES["val"])
        return facts_of(self.read_truth(data), data)

    def recipes(self) -> Mapping[str, Callable[[], ExternalConfig]]:
        """Return the recipes by name."""
        return RECIPES

    def check(self, config: ExternalConfig) -> ExternalConfig:
        """Return ``config``, whose values are possible."""
        return config.resolved()

    def truth(self, data: DataRoot, split: Split, limit_images: int | None, cache: Path) -> Truth:
        """Return the validation images with their objects; the images need not exist."""
        del split, limit_images, cache
        return self.read_truth(data).truth

    def read_truth(self, data: DataRoot) -> ScoringTruth:
        """Return what results are held against.

        Raises:
            PreflightError: The annotations cannot be used.
        """
        return read_truth(_open(data))


def _open(data: DataRoot) -> CocoData:
    if data.path is None:
        return find_truth(mini_data().coco, data.name)
    return find_truth(data.path, data.name)


def facts_of(scoring: ScoringTruth, data: DataRoot) -> Facts:
    """Return what a record bears of the annotations.

    Args:
        scoring: The annotations.
        data: Where they lie.
    """
    fingerprint = MINI_SHA256 if data.mini else scoring.fingerprint
    return Facts(fingerprint, 0, len(scoring.truth.images), notes=scoring.notes)


TASK = External()
