"""Multinomial logistic regression to convergence, its penalty chosen by cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.tasks.lowshot.recipes import RegressionConfig

# Largest slope at which L-BFGS counts as converged; in double precision it is reached.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Standard:
    """Brings features to mean 0 and variance 1, as some images had them.

    Attributes:
        mean: (D,).
        std: (D,); 1 where a feature is constant.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "Standard":
        """Return what brings these (N, D) rows there."""
        std = rows.std(dim=0, correction=0)
        # What differs by rounding alone must not be blown up to the size of the others.
        constant = std <= 1e-6 * rows.abs().mean()
        return cls(rows.mean(dim=0), torch.where(constant, torch.ones_like(std), std))

    def __call__(self, rows: Tensor) -> Tensor:
        """Return (N, D) rows in these units."""
        return (rows - self.mean) / self.std


@dataclass(frozen=True)
class Classifier:
    """A fitted regression.

    Attributes:
        weights: (C, D) float64.
        biases: (C,) float64.
    """

    weights: Tensor
    biases: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the logits of (N, D) rows, (N, C)."""
        return torch.addmm(self.biases, rows, self.weights.T)


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


def fit(
    rows: Tensor,
    labels: Tensor,
    num_classes: int,
    l2: float,
    max_iterations: int,
    start: Classifier | None = None,
) -> Classifier:
    """Minimise mean cross-entropy + l2 / 2 * squared weights; biases are free.

    Args:
        rows: (N, D) float64.
        labels: (N,) classes.
        num_classes: Of the data; some may have no image here.
        l2: The penalty.
        max_iterations: Of L-BFGS.
        start: Where to begin; at 0 without.
    """
    shape = (num_classes, rows.shape[1])
    weights = rows.new_zeros(shape) if start is None else start.weights.clone()
    biases = rows.new_zeros(num_classes) if start is None else start.biases.clone()
    weights.requires_grad_()
    biases.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights, biases],
        max_iter=max_iterations,
        tolerance_grad=_TOLERANCE,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = torch.addmm(biases, rows, weights.T)
        value = torch.nn.functional.cross_entropy(logits, labels) + l2 / 2 * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return Classifier(weights.detach(), biases.detach())


def fit_path(
    rows: Tensor, labels: Tensor, num_classes: int, l2s: Sequence[float], max_iterations: int
) -> dict[float, Classifier]:
    """Return a fit for each penalty, each begun where the next stronger one ended."""
    found: dict[float, Classifier] = {}
    last = None
    for l2 in sorted(l2s, reverse=True):
        last = found[l2] = fit(rows, labels, num_classes, l2, max_iterations, last)
    return found


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
