"""A frozen backbone before labelled images: what every task on features begins with."""

import hashlib
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from backbones.base import devices
from backbones.base.errors import PreflightError, UserError
from backbones.base.files import canonical_json
from backbones.base.monitor import Monitor
from backbones.base.sections import as_plain
from backbones.timing.alone import time_alone
from backbones.timing.conditions import Rates
from benchmarks.labelled.config import CentralViewConfig, ExtractionConfig
from benchmarks.labelled.features.extract import Extractor, Frozen, freeze
from benchmarks.labelled.features.table import FeatureTable
from benchmarks.labelled.features.views import CentralView, View
from benchmarks.labelled.scores import (
    ClassificationScores,
    ClassifierOutput,
    about_top5,
    about_unreadable,
)
from benchmarks.labelled.sets.folders import class_name, labels_of, open_labelled
from benchmarks.labelled.sets.real_labels import judge_real, read_real_labels
from benchmarks.labelled.sets.vision_sets import about_mean_class
from benchmarks.task import TaskInputs
from pretrain.data.images import ImageSet


@dataclass(frozen=True)
class ReadableSplit:
    """The readable images of a split.

    Attributes:
        table: Their features.
        labels: (N,) int64 classes.
    """

    table: FeatureTable
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def indices(self) -> npt.NDArray[np.int64]:
        """Return the images' numbers in the whole split, (N,)."""
        return self.table.indices


class FrozenEvaluation:
    """What is measured, its images, and what measuring them came to.

    Attributes:
        frozen: The backbone.
        images: All images.
        train: Training images in the central view.
        val: Test images likewise.
    """

    def __init__(
        self,
        inputs: TaskInputs,
        data: CentralViewConfig,
        extraction: ExtractionConfig,
        monitor: Monitor,
    ) -> None:
        """Build the backbone and extract, or find, the features of both splits.

        Args:
            inputs: Of the run.
            data: The central view.
            extraction: How the backbone is run.
            monitor: To report to.

        Raises:
            PreflightError: Weights, images or disk cannot serve.
            StoppedError: The monitor asked to stop; finished features are kept.
        """
        self._start = time.perf_counter()
        self._data = data
        self._root = inputs.data
        self._timed = inputs.timed
        self.images = open_labelled(inputs.data, inputs.cache, inputs.limit_images)
        self.frozen = freeze(inputs.backbone, inputs.checkpoint, data.img_size, inputs.seed)
        monitor.say(self.frozen.coverage.sentence())
        self._extractor = Extractor(self.frozen, extraction, inputs.cache, monitor)
        view = CentralView.of(data)
        self.train = self.split(self.images.train, view, "train")
        self.val = self.split(self.images.val, view, "val")
        names = [self.images.val.name_of(int(index)) for index in self.val.indices]
        self._answers = read_real_labels(self.images.root, names)

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.images.classes)

    @property
    def device(self) -> torch.device:
        """Return where the backbone runs."""
        return self.frozen.device

    def split(self, images: ImageSet, view: View, what: str) -> ReadableSplit:
        """Return images in a view as features.

        Args:
            images: Some of the labelled ones.
            view: What the backbone is shown.
            what: For messages.

        Raises:
            PreflightError: Too many images cannot be read, or none can.
            StoppedError: As for the class.
        """
        table = self._extractor.table(images, view, what, self._data.max_corrupt)
        if not len(table):
            raise PreflightError(f"Not one of the {what} images of {images.name} can be read.")
        return ReadableSplit(table, torch.from_numpy(labels_of(images)[table.indices]))

    def forget(self, images: ImageSet, view: View) -> None:
        """Remove the features of a view that this run will not use again."""
        self._extractor.forget(images, view)

    def check_kind(self, kind: str, key: str) -> None:
        """Refuse a kind of feature that the backbone does not have.

        Args:
            kind: As in a recipe.
            key: Of the recipe.

        Raises:
            UserError: It has no such features.
        """
        kinds = self.frozen.layout.kinds
        if kind not in kinds:
            raise UserError(
                f"{self.frozen.spec.name} has no features {kind!r}; --set {key} to one of "
                f"{', '.join(kinds)}."
            )

    def warnings(self) -> list[str]:
        """Return what a reader of the numbers should know."""
        found = about_top5(self.num_classes) + about_mean_class(self._root)
        for what, split in (("training", self.train), ("test", self.val)):
            found += about_unreadable(split.table.unreadable, what)
        return found

    def judge_real(self, verdict: ClassifierOutput) -> npt.NDArray[np.int8] | None:
        """Return a verdict on reassessed labels, None where the data have none."""
        return judge_real(verdict.predicted.tolist(), self._answers)

    def per_class(self, scores: ClassificationScores) -> dict[str, dict[str, float | None]]:
        """Return the top1 of each class by name."""
        names = self.images.classes
        return {
            class_name(self._root, number, names): {"top1": value}
            for number, value in scores.per_class.items()
        }

    def cost(self) -> dict[str, float | None]:
        """Return what the run cost so far; no rate where all features were in the cache."""
        seen, seconds = self._extractor.images_seen, self._extractor.seconds
        return {
            "images_per_second_test": seen / seconds if seen else None,
            "parameters_millions": self.frozen.parameters_millions,
            "peak_memory_gib": devices.peak_memory_gib(),
            "seconds": time.perf_counter() - self._start,
        }

    def rates(self, monitor: Monitor) -> Rates:
        """Return the speed of the backbone, timed alone; nothing where the run is not timed."""
        if not self._timed:
            return Rates()
        view = CentralView.of(self._data)
        work = {"images_per_second_test": lambda: self._extractor.rehearse(self.images.val, view)}
        return time_alone(work, monitor)

    def details(self) -> dict[str, Any]:
        """Return what the numbers rest on."""
        layout = self.frozen.layout
        extractor = self._extractor
        return {
            "num_train": len(self.train),
            "num_test": len(self.val),
            "num_classes": self.num_classes,
            "features": {kind: layout.width_of(kind) for kind in layout.kinds},
            "images_extracted": extractor.images_seen,
            "loading_share": (
                extractor.seconds_loading / extractor.seconds if extractor.seconds else None
            ),
            "device": str(self.device),
        }


def identity_of(inputs: TaskInputs, frozen: Frozen, fingerprint: str) -> dict[str, str]:
    """Return it, by words that a person understands, as ``StateFolder`` compares it.

    Args:
        inputs: Of the run.
        frozen: The backbone with its weights.
        fingerprint: Of the images.
    """
    recipe = canonical_json(as_plain(inputs.config)).encode()
    return {
        "recipe": hashlib.sha256(recipe).hexdigest()[:16],
        "backbone": f"{frozen.spec.name} {frozen.identity}",
        "data": fingerprint,
        "limit": str(inputs.limit_images),
        "seed": str(inputs.seed),
    }
