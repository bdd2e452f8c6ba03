"""What runs left behind image by image, and their metrics for any choice of images."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.by_image.files import (
    CORRESPONDENCE,
    CORRESPONDENCE_FILE,
    PREDICTIONS,
    PREDICTIONS_FILE,
)
from detection.scoring.matches import MATCHES_FILE, DetectionMatches, read_matches
from detection.scoring.resampling import NAMES, mean_of_classes, resample

Floats = npt.NDArray[np.float64]


Weights = npt.NDArray[np.int32]

_TOP = {"top1": 1, "top5": 5}
_MEASURES = (*_TOP, "mean_class", "real")
_MOST_THREADS = 8


class ImageResults(Protocol):
    """Results of one run on every test image."""

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
class Detected:
    """Of the task coco."""

    matches: DetectionMatches

    @property
    def image_ids(self) -> npt.NDArray[np.int64]:
        """As ``ImageResults``."""
        return self.matches.image_ids

    def metrics(self, weights: Weights) -> dict[str, Floats]:
        """As ``ImageResults``."""
        found: dict[str, Floats] = {}
        for kind in self.matches.kinds:
            means = mean_of_classes(self.by_class(kind, weights))
            found |= {f"{name}{kind}": means[:, n] for n, name in enumerate(NAMES)}
        return found

    def by_class(self, kind: str, weights: Weights) -> Floats:
        """Return COCO's numbers by class, (R, 12, C), see ``detection.scoring.resampling``."""
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        return resample(self.matches, kind, weights, threads)


@dataclass(frozen=True)
class Classified:
    """Of the tasks that classify labelled images, see ``imagenet.scores.write_predictions``.

    Attributes:
        columns: Of the file.
        task: Name of the task.
        names: Of the run's metrics. ``PREFIX_top1`` is of the variant PREFIX, or of the headline
            where PREFIX is the task; so are top5, mean_class and real.
    """

    columns: Mapping[str, Any]
    task: str
    names: tuple[str, ...]

    @property
    def image_ids(self) -> npt.NDArray[np.int64]:
        """As ``ImageResults``."""
        ids: npt.NDArray[np.int64] = self.columns["indices"]
        return ids

    def metrics(self, weights: Weights) -> dict[str, Floats]:
        """As ``ImageResults``."""
        found = {}
        for name in self.names:
            measure = next((m for m in _MEASURES if name.endswith(f"_{m}")), "")
            rank = self._rank(name.removesuffix(f"_{measure}"))
            if rank is None:
                continue
            if measure in _TOP:
                found[name] = _share(weights, rank < _TOP[measure])
            elif measure == "mean_class":
                found[name] = self._mean_class(weights, rank == 0)
            elif measure == "real" and "real" in self.columns:
                real = self.columns["real"]
                found[name] = _share(weights, real == 1, real >= 0)
        return found

    def _rank(self, prefix: str) -> npt.NDArray[np.uint8] | None:
        own = self.columns["rank"] if prefix == self.task else None
        found: npt.NDArray[np.uint8] | None = self.columns.get(f"rank/{prefix}", own)
        return found

    def _mean_class(self, weights: Weights, right: npt.NDArray[np.bool_]) -> Floats:
        order, starts = self._classes
        ordered = weights[:, order]
        counts = np.add.reduceat(ordered, starts, axis=1).astype(np.float64)
        sums = np.add.reduceat(ordered * right[order], starts, axis=1)
        shares = np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
        return 100 * mean_of_classes(shares)

    @cached_property
    def _classes(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Images in the order of their class, and where each class starts."""
        labels = self.columns["labels"]
        order = np.argsort(labels, kind="stable")
        return order, np.flatnonzero(np.diff(labels[order], prepend=-1))


@dataclass(frozen=True)
class Averaged:
    """Of tasks whose metrics are means over images.

    Attributes:
        image_ids: (I,) as ``ImageResults``.
        values: By metric (I,), in its unit.
    """

    image_ids: npt.NDArray[np.int64]
    values: Mapping[str, Floats]

    def metrics(self, weights: Weights) -> dict[str, Floats]:
        """As ``ImageResults``."""
        total = weights.sum(axis=1)
        return {name: weights @ values / total for name, values in self.values.items()}


def read_image_results(
    files: Iterable[Path], task: str, metrics: Iterable[str]
) -> ImageResults | None:
    """Return what a run left behind image by image, None where it left nothing of the kind.

    Args:
        files: Of the run.
        task: Its name.
        metrics: Names of the run's metrics.

    Raises:
        UserError: A file is absent, damaged, or something else.
    """
    by_name = {path.name: path for path in files}
    if MATCHES_FILE in by_name:
        return Detected(read_matches(by_name[MATCHES_FILE]))
    if PREDICTIONS_FILE in by_name:
        columns = PREDICTIONS.read(by_name[PREDICTIONS_FILE], dict)
        return Classified(columns, task, tuple(metrics))
    if CORRESPONDENCE_FILE in by_name:
        columns = CORRESPONDENCE.read(by_name[CORRESPONDENCE_FILE], dict)
        values = {
            "correspondence_accuracy": 100 * columns["accuracy"],
            "correspondence_distance": columns["pixels"],
        }
        return Averaged(columns["indices"], values)
    return None


def identity_of(image_ids: npt.NDArray[np.int64]) -> str:
    """Return what sets of images share that may be resampled together."""
    return hashlib.sha256(np.ascontiguousarray(image_ids, dtype="<i8").tobytes()).hexdigest()


def _share(
    weights: Weights, right: npt.NDArray[np.bool_], counted: npt.NDArray[np.bool_] | None = None
) -> Floats:
    """Return the percentage of right ones among those counted, (R,)."""
    wanted = np.ones(len(right), dtype=bool) if counted is None else counted
    total = weights[:, wanted].sum(axis=1).astype(np.float64)
    found = weights[:, right & wanted].sum(axis=1)
    unknown = np.full(len(total), np.nan)
    share: Floats = np.divide(found, total, out=unknown, where=total > 0)
    return 100 * share
