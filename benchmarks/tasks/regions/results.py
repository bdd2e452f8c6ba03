"""Results of a region probe box by box, and their metrics for any choice of images."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backbones.base.arrays import ArrayFormat
from benchmarks.by_image.images import Floats, Weights
from benchmarks.tasks.regions.boxes import SIZES

RESULTS_FILE = "regions.npz"
_FORMAT = ArrayFormat("backbench-regions-1", "region results")
_COLUMNS = (
    "image_ids", "images", "labels", "sizes", "linear", "knn", "predicted", "with_background",
    "background_images", "background", "copy_images", "copy_sizes", "copy_labels", "iou",
)  # fmt: skip

# What one metric is: a numerator and a denominator per image, each (I,).
Ratio = tuple[Floats, Floats]


@dataclass(frozen=True)
class RegionResults:
    """How each box of the validation images fared.

    Attributes:
        columns: ``image_ids`` (I,); of N objects ``images`` (place of the image), ``labels``,
            ``sizes``, ``predicted`` and whether the class was right by ``linear``, ``knn`` and
            ``with_background``; of M background boxes ``background_images`` and ``background``
            (right or not); of K displaced boxes ``copy_images``, ``copy_sizes``, ``copy_labels``
            and ``iou`` after the regression.
    """

    columns: Mapping[str, npt.NDArray[Any]]

    @property
    def image_ids(self) -> npt.NDArray[np.int64]:
        """Return the ids of the images, (I,)."""
        ids: npt.NDArray[np.int64] = self.columns["image_ids"]
        return ids

    def metrics(self, weights: Weights) -> dict[str, Floats]:
        """Return every metric in percent for images that occur several times, or not at all.

        Args:
            weights: (R, I) how often each image occurs.

        Returns:
            By name (R,); NaN where the images hold no box of the kind.
        """
        found = {
            name: _quotient(weights @ numerator, weights @ denominator)
            for name, (numerator, denominator) in self._ratios.items()
        }
        found["region_mean_class"] = self._mean_class(weights)
        return found

    def per_class(self) -> dict[int, dict[str, float]]:
        """Return top1 and mean IoU in percent of each class that has objects."""
        columns, found = self.columns, {}
        for label in np.unique(columns["labels"]):
            own, copies = columns["labels"] == label, columns["copy_labels"] == label
            found[int(label)] = {"top1": 100 * float(columns["linear"][own].mean())}
            if copies.any():
                found[int(label)]["iou"] = 100 * float(columns["iou"][copies].mean())
        return found

    @cached_property
    def _ratios(self) -> dict[str, Ratio]:
        c = self.columns
        found = {
            "region_top1": self._ratio(c["images"], c["linear"]),
            "region_knn_top1": self._ratio(c["images"], c["knn"]),
            "region_background_top1": self._ratio(
                np.concatenate([c["images"], c["background_images"]]),
                np.concatenate([c["with_background"], c["background"]]),
            ),
            "region_iou": self._ratio(c["copy_images"], c["iou"]),
            "region_iou50": self._ratio(c["copy_images"], c["iou"] > 0.5),
            "region_iou75": self._ratio(c["copy_images"], c["iou"] > 0.75),
        }
        for number, size in enumerate(SIZES):
            own, copies = c["sizes"] == number, c["copy_sizes"] == number
            found[f"region_top1_{size}"] = self._ratio(c["images"][own], c["linear"][own])
            found[f"region_iou_{size}"] = self._ratio(c["copy_images"][copies], c["iou"][copies])
        return found

    def _ratio(self, images: npt.NDArray[Any], values: npt.NDArray[Any]) -> Ratio:
        """Return the sum of (M,) values and their count for each of N images, (N,) each."""
        count = len(self.image_ids)
        sums = np.bincount(images, weights=values.astype(np.float64), minlength=count)
        return sums.astype(np.float64), np.bincount(images, minlength=count).astype(np.float64)

    def _mean_class(self, weights: Weights) -> Floats:
        """Return the mean over the classes that have objects of each class's top1, (R,)."""
        right, total = self._by_class
        shares = _quotient(weights @ right, weights @ total)
        with np.errstate(invalid="ignore"):
            counted = np.isfinite(shares).sum(axis=1)
        sums = np.nansum(shares, axis=1)
        unknown = np.full(len(sums), np.nan)
        means: Floats = np.divide(sums, counted, out=unknown, where=counted > 0)
        return means

    @cached_property
    def _by_class(self) -> tuple[Floats, Floats]:
        """Right and all objects by image and class, each (I, C)."""
        c, shape = self.columns, (len(self.image_ids), int(self.columns["labels"].max()) + 1)
        right, total = np.zeros(shape), np.zeros(shape)
        np.add.at(total, (c["images"], c["labels"]), 1.0)
        np.add.at(right, (c["images"], c["labels"]), c["linear"].astype(np.float64))
        return right, total


def write_results(path: Path, results: RegionResults) -> None:
    """Write results, atomically; equal results give equal bytes.

    Raises:
        PreflightError: The file cannot be written.
    """
    _FORMAT.write(path, results.columns)


def read_results(path: Path) -> RegionResults:
    """Return the results that ``write_results`` wrote.

    Raises:
        UserError: The file is absent, damaged, or something else.
    """
    return _FORMAT.read(path, _checked)


def _checked(columns: dict[str, Any]) -> RegionResults:
    lengths = [
        ("images", ("labels", "sizes", "linear", "knn", "predicted", "with_background")),
        ("background_images", ("background",)),
        ("copy_images", ("copy_sizes", "copy_labels", "iou")),
    ]
    if set(columns) != set(_COLUMNS):
        raise ValueError("its columns are not those of region results")
    for places, others in lengths:
        if any(len(columns[name]) != len(columns[places]) for name in others):
            raise ValueError(f"the columns next to {places} differ in length")
        if len(columns[places]) and not 0 <= columns[places].min() <= columns[places].max() < len(
            columns["image_ids"]
        ):
            raise ValueError(f"{places} names images that the file does not list")
    return RegionResults(columns)


def _quotient(numerator: Floats, denominator: Floats) -> Floats:
    """Return percentages, shaped as the numerator, NaN where the denominator is not positive."""
    unknown = np.full(numerator.shape, np.nan)
    shares: Floats = np.divide(numerator, denominator, out=unknown, where=denominator > 0)
    return 100 * shares
