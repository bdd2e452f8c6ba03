"""Multinomial logistic regression on standardised features, to convergence."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
