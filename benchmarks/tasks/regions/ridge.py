"""Ridge regression of box offsets from pooled cells, for any number of rows and features.

The normal equations have as many unknowns as features (D), the dual ones as many as rows (N). Both
have the same solution; the smaller system is solved, so that memory is about three float64 matrices
of side min(N, D) and two chunks of rows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.tasks.regions.boxes import Floats, Ints

Cells = npt.NDArray[np.float16]
# Rows of displaced boxes that say where the values of a feature lie.
_CHOSEN = 4_096
# Values of cells that are turned into double precision at once: 128 MiB.
_CHUNK_VALUES = 2**24
# Features that hardly vary are not scaled up.
_CONSTANT = 1e-6

# Weights (D, 4) and offsets (4,) of a regression.
Solved = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Fit:
    """A system that a regression follows from, for any penalty.

    Attributes:
        places: (N,) rows that it is made of.
        mean: (D,) of the scaled rows.
        deviation: (D,) of the scaled rows, 1 for constant features.
        target_mean: (4,).
        moment: (D, 4) of standardised rows with centred targets; in the dual form the (N, 4)
            centred targets.
        gram: (D, D) mean products of standardised features; in the dual form the (N, N) products
            of standardised rows, over N.
        dual: Whether the dual form is held.
    """

    places: Ints
    mean: Tensor
    deviation: Tensor
    target_mean: Tensor
    moment: Tensor
    gram: Tensor
    dual: bool


class BoxRidge:
    """Cells of displaced training boxes on a device, read in chunks, and regressions on them."""

    def __init__(self, cells: Cells, device: torch.device, clip: float) -> None:
        """Set up.

        Args:
            cells: (N, D) of the training copies.
            device: Where sums and products are formed.
            clip: Largest absolute value of a standardised feature.
        """
        self._cells = cells
        self._device = device
        self._clip = clip
        # A fixed choice of rows says where the values lie.
        chosen = np.linspace(0, len(cells) - 1, min(len(cells), _CHOSEN)).astype(np.int64)
        some = cells[chosen]
        columns = max(1, _CHUNK_VALUES // len(some))
        parts = [
            torch.std_mean(self._on_device(some[:, start : start + columns]), dim=0, correction=0)
            for start in range(0, cells.shape[1], columns)
        ]
        scale = torch.cat([part[0] for part in parts])
        self._shift = torch.cat([part[1] for part in parts])
        self._scale = torch.where(scale > 0, scale, torch.ones_like(scale))

    def fit(self, places: Ints, targets: Floats) -> Fit:
        """Return what a regression on the rows at ``places`` follows from.

        Args:
            places: (n,) row numbers.
            targets: (N, 4) of all rows.
        """
        width = self._cells.shape[1]
        sums = torch.zeros(2, width, dtype=torch.float64, device=self._device)
        for chunk in self._chunks(places):
            rows = self._scaled(self._cells, chunk)
            sums += torch.stack([rows.sum(dim=0), rows.square_().sum(dim=0)])
        mean, square = sums / len(places)
        deviation = (square - mean.square()).clamp_(min=0).sqrt_()
        constant = deviation <= _CONSTANT * deviation.mean()
        deviation = torch.where(constant, torch.ones_like(deviation), deviation)
        wanted = torch.from_numpy(targets[places]).to(self._device)
        centred = wanted - wanted.mean(dim=0)
        dual = len(places) < width
        found = (self._dual if dual else self._primal)(places, centred, (mean, deviation))
        return Fit(places, mean, deviation, wanted.mean(dim=0), *found, dual)

    def solve(self, fit: Fit, l2: float) -> Solved:
        """Return weights (D, 4) and offsets (4,) of the regression with penalty ``l2``.

        The penalty is relative to the mean square of a standardised feature, which is 1.
        """
        system = fit.gram.clone()
        system.diagonal().add_(l2)
        factor = torch.linalg.cholesky(system)
        del system
        solution = torch.cholesky_solve(fit.moment, factor)
        if fit.dual:
            weights = torch.zeros(len(fit.mean), 4, dtype=torch.float64, device=self._device)
            shares = solution / len(fit.places)
            for start, chunk in self._numbered(fit.places):
                rows = self._standard(chunk, (fit.mean, fit.deviation))
                weights.addmm_(rows.T, shares[start : start + len(chunk)])
        else:
            weights = solution
        weights = weights / fit.deviation[:, None]
        return weights, fit.target_mean - fit.mean @ weights

    def predict(self, solved: Solved, cells: Cells, places: Ints) -> Floats:
        """Return what a regression says of the rows of ``cells`` at ``places``, (n, 4)."""
        weights, offset = solved
        found = [self._scaled(cells, chunk) @ weights + offset for chunk in self._chunks(places)]
        predicted: Floats = torch.cat(found).cpu().numpy()
        return predicted

    def _primal(
        self, places: Ints, centred: Tensor, scales: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the moment (D, 4) and the products of features (D, D) of centred targets."""
        width = self._cells.shape[1]
        moment = torch.zeros(width, 4, dtype=torch.float64, device=self._device)
        gram = torch.zeros(width, width, dtype=torch.float64, device=self._device)
        for start, chunk in self._numbered(places):
            rows = self._standard(chunk, scales)
            moment.addmm_(rows.T, centred[start : start + len(chunk)], alpha=1 / len(places))
            gram.addmm_(rows.T, rows, alpha=1 / len(places))
        return moment, gram

    def _dual(
        self, places: Ints, centred: Tensor, scales: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the centred targets and the products of rows (N, N)."""
        gram = torch.empty(len(places), len(places), dtype=torch.float64, device=self._device)
        for top, chunk in self._numbered(places):
            rows = self._standard(chunk, scales)
            for left, other in self._numbered(places[: top + len(chunk)]):
                others = rows if left == top else self._standard(other, scales)
                block = rows @ others.T / len(places)
                gram[top : top + len(chunk), left : left + len(other)] = block
                gram[left : left + len(other), top : top + len(chunk)] = block.T
        return centred, gram

    def _standard(self, places: Ints, scales: tuple[Tensor, Tensor]) -> Tensor:
        """Return training rows with mean 0 and deviation 1 over a fit's rows, (n, D) float64."""
        mean, deviation = scales
        return self._scaled(self._cells, places).sub_(mean).div_(deviation)

    def _scaled(self, cells: Cells, places: Ints) -> Tensor:
        """Return the rows of (N, D) cells at (n,) places, scaled and cut, (n, D) float64."""
        rows = self._on_device(cells[places]).sub_(self._shift).div_(self._scale)
        return rows.clamp_(-self._clip, self._clip)

    def _on_device(self, cells: Cells) -> Tensor:
        """Return (n, D) cells in double precision."""
        return torch.from_numpy(cells).to(self._device).double()

    def _chunks(self, places: Ints) -> list[Ints]:
        return [chunk for _, chunk in self._numbered(places)]

    def _numbered(self, places: Ints) -> list[tuple[int, Ints]]:
        """Return (n,) places in chunks, each with the number of places before it."""
        count = max(1, min(_CHOSEN, _CHUNK_VALUES // self._cells.shape[1]))
        return [(start, places[start : start + count]) for start in range(0, len(places), count)]
