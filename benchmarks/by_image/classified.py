"""The results of a classifier on every test image: which class it named, and its rank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backbones.base.arrays import ArrayFormat
from benchmarks.by_image.images import Floats, ImageFile, Weights, mean_of_classes

# See ``labelled.scores.write_predictions``.
PREDICTIONS_FILE = "predictions.npz"
PREDICTIONS = ArrayFormat("backbench-predictions-1", "predictions")
_TOP = {"top1": 1, "top5": 5}
_MEASURES = (*_TOP, "mean_class", "real")


@dataclass(frozen=True)
class Classified:
    """The results of one run of a task that classifies labelled images.

    Attributes:
        columns: Columns of the file by name, see ``labelled.scores.write_predictions``.
        task: Name of the task.
        names: Names of the run's metrics. ``PREFIX_top1`` belongs to the variant PREFIX, or to the
            headline if PREFIX is the task; the same holds for top5, mean_class and real.
    """

    columns: Mapping[str, Any]
    task: str
    names: tuple[str, ...]

    @property
    def image_ids(self) -> npt.NDArray[np.int64]:
        """(I,) which images they are."""
        ids: npt.NDArray[np.int64] = self.columns["indices"]
        return ids

    def metrics(self, weights: Weights) -> dict[str, Floats]:
        """Return the percentages, see ``ImageResults``."""
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


def predictions_of(task: str) -> ImageFile:
    """Return the file of a task that calls ``labelled.scores.write_predictions``.

    Args:
        task: Name of the task, which is also the prefix of the metrics of its headline.
    """

    def read(path: Path, metrics: Sequence[str]) -> Classified:
        return Classified(PREDICTIONS.read(path, dict), task, tuple(metrics))

    return ImageFile(PREDICTIONS_FILE, read)


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
