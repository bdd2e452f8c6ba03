"""The penalty of a logistic regression, chosen by cross-validation on the labelled images."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.labelled.logistic import fit_path
from benchmarks.tasks.lowshot.recipes import RegressionConfig


@dataclass(frozen=True)
class ChosenPenalty:
    """A penalty and why.

    Attributes:
        l2: The penalty.
        folds: Of the cross-validation; 0 where there was none.
        top1: Mean held-out top1 by penalty, percent.
    """

    l2: float
    folds: int
    top1: dict[float, float]


def choose(
    rows: Tensor, labels: Tensor, num_classes: int, config: RegressionConfig, seed: int
) -> ChosenPenalty:
    """Return the penalty with the best held-out top1; of equals the strongest.

    Args:
        rows: (N, D) float64 of the labelled images.
        labels: (N,) their classes.
        num_classes: Of the data.
        config: Penalties and folds.
        seed: Of the folds.
    """
    counts = torch.bincount(labels, minlength=num_classes)
    folds = min(config.folds, int(counts[counts > 0].min()))
    if folds < 2:
        return ChosenPenalty(config.l2_alone, 0, {})
    fold = torch.from_numpy(_folds(labels.cpu().numpy(), folds, seed)).to(labels.device)
    right = dict.fromkeys(sorted(config.l2s, reverse=True), 0)
    for number in range(folds):
        kept, held = fold != number, fold == number
        path = fit_path(rows[kept], labels[kept], num_classes, config.l2s, config.max_iterations)
        for l2, classifier in path.items():
            right[l2] += int((classifier(rows[held]).argmax(dim=1) == labels[held]).sum())
    top1 = {l2: 100.0 * count / len(labels) for l2, count in right.items()}
    return ChosenPenalty(max(top1, key=lambda l2: top1[l2]), folds, top1)


def _folds(
    labels: "np.ndarray[tuple[int], np.dtype[np.int64]]", folds: int, seed: int
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return the fold of every image; each class is dealt out evenly."""
    found = np.empty(len(labels), dtype=np.int64)
    for number in np.unique(labels):
        places = np.flatnonzero(labels == number)
        draws = np.random.default_rng([seed, int(number), 1])
        found[draws.permutation(places)] = np.arange(len(places)) % folds
    return found
