"""From standard errors to intervals and p-values."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from benchmarks.by_image.images import Floats
from benchmarks.leaderboard.statistics.results import CONFIDENCE

LEVEL = 1 - CONFIDENCE


@dataclass(frozen=True)
class Spread:
    """Variances of estimates by their source; all arrays of one shape.

    Attributes:
        images: From the choice of test images; NaN where unknown.
        seeds: From the choice of seeds; NaN where unknown, which leaves everything unknown: without
            it, one training would pass for all trainings.
        num_images: Number of images behind ``images``.
        freedom: Degrees of freedom of ``seeds``; infinite where it is taken as given.
    """

    images: Floats
    seeds: Floats
    num_images: int
    freedom: float

    @property
    def errors(self) -> Floats:
        """Standard errors; NaN where they are unknown."""
        nothing = np.isnan(self.images) & (self.seeds == 0)
        unknown = np.isnan(self.seeds) | nothing
        total = np.nan_to_num(self.images) + np.nan_to_num(self.seeds)
        found: Floats = np.where(unknown, np.nan, np.sqrt(total))
        return found

    @property
    def degrees(self) -> Floats:
        """Degrees of freedom of the sum (Satterthwaite 1946), at least 1."""
        images, seeds = np.nan_to_num(self.images), np.nan_to_num(self.seeds)
        parts = images**2 / max(self.num_images - 1, 1) + seeds**2 / max(self.freedom, 1)
        total = (images + seeds) ** 2
        found = np.divide(total, parts, out=np.full(total.shape, np.inf), where=parts > 0)
        degrees: Floats = np.maximum(found, 1.0)
        return degrees

    def half_widths(self) -> Floats:
        """Return half the width of intervals at ``CONFIDENCE``, by Student's t."""
        found: Floats = self.errors * stdtrit(np.minimum(self.degrees, 1e9), 1 - LEVEL / 2)
        return found

    def p_values(self, differences: Floats) -> Floats:
        """Return two-sided p-values that differences are zero; NaN where nothing is known.

        Args:
            differences: Of the shape of the spread.
        """
        errors = self.errors
        size = np.abs(differences)
        ratio = np.divide(size, errors, out=np.where(size > 0, np.inf, 0.0), where=errors > 0)
        found = 2 * stdtr(np.minimum(self.degrees, 1e9), -ratio)
        return np.where(np.isnan(errors), np.nan, found)


def holm(p_values: npt.ArrayLike) -> Floats:
    """Return p-values corrected for their number (Holm 1979); NaN stay, and do not count.

    Args:
        p_values: (N,).
    """
    given = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    corrected = given[order] * np.arange(len(order), 0, -1)
    found = np.full(given.shape, np.nan)
    found[order] = np.minimum(np.maximum.accumulate(corrected), 1.0)
    return found
