"""The results of a run on every test image, and the file that keeps them."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.int32]


class ImageResults(Protocol):
    """The results of one run on every test image, from which its metrics can be computed again."""

    @property
    def image_ids(self) -> npt.NDArray[np.int64]:
        """(I,) which images they are."""

    def metrics(self, weights: Weights) -> dict[str, Floats]:
        """Return metrics when images occur more than once, or not at all.

        Args:
            weights: (R, I) how often each image occurs.

        Returns:
            By name (R,), in the metric's unit; NaN where the images say nothing.
        """


@dataclass(frozen=True)
class ImageFile:
    """The file in which every run of a task keeps its results by image.

    Attributes:
        name: Name of the file in the run's folder.
        read: Takes the path of the file and the names of the run's metrics, returns the results.
            Raises UserError if the file is missing, damaged or of another format.
        detections: Whether the results are ``by_image.detected.Detected``. Rows of such a task are
            also compared by class and by image, and their detections can be drawn.
    """

    name: str
    read: Callable[[Path, Sequence[str]], ImageResults]
    detections: bool = False


@dataclass(frozen=True)
class Averaged:
    """The results of a task whose metrics are means over images.

    Attributes:
        image_ids: (I,) which images they are.
        values: By name of the metric (I,): the value of each image, in the metric's unit.
    """

    image_ids: npt.NDArray[np.int64]
    values: Mapping[str, Floats]

    def metrics(self, weights: Weights) -> dict[str, Floats]:
        """Return the weighted mean of each metric, see ``ImageResults``."""
        total = weights.sum(axis=1)
        return {name: weights @ values / total for name, values in self.values.items()}


def mean_of_classes(numbers: Floats) -> Floats:
    """Return the mean over the classes that have a value, NaN if none has one.

    Args:
        numbers: (..., C) of each class, NaN for a class that the images say nothing about.
    """
    known = np.isfinite(numbers)
    total = np.where(known, numbers, 0.0).sum(axis=-1)
    count = known.sum(axis=-1)
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def identity_of(image_ids: npt.NDArray[np.int64]) -> str:
    """Return what sets of images share that may be resampled together."""
    return hashlib.sha256(np.ascontiguousarray(image_ids, dtype="<i8").tobytes()).hexdigest()
