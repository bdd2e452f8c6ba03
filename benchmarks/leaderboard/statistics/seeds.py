"""What the choice of seeds does to numbers, and what it adds to the choice of images.

The model (``docs/statistics.md``): a run's value is the entry's own, plus what its seed does, plus
what the images do to the entry, plus what the images do to this seed's network. Seeds are taken to
do as much to every entry of a table, because the two or three seeds of one entry say next to
nothing about a variance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.by_image.images import Floats
from benchmarks.by_image.resamples import errors_of
from benchmarks.leaderboard.statistics.results import Noise


@dataclass(frozen=True)
class Runs:
    """One metric of the runs of a row.

    Attributes:
        values: (S,) of each seed.
        resamples: (S, R) under each choice of images; None where a run has none.
    """

    values: Floats
    resamples: Floats | None

    def variance_over_images(self) -> float:
        """Return the variance of the mean over seeds; NaN where images say nothing."""
        if self.resamples is None:
            return float("nan")
        return float(errors_of(self.resamples.mean(axis=0))) ** 2


def noise(rows: Sequence[Runs]) -> Noise:
    """Return the noise of a metric, pooled over rows.

    Args:
        rows: Of a table.
    """
    several = [row for row in rows if len(row.values) > 1]
    freedom = sum(len(row.values) - 1 for row in several)
    if not freedom:
        return Noise(None, None, 0)
    squares = sum(float(np.var(row.values)) * len(row.values) for row in several)
    total = squares / freedom
    shares = [(len(row.values) - 1, _shared(row)) for row in several]
    known = [(weight, share) for weight, share in shares if not np.isnan(share)]
    images = sum(w * s for w, s in known) / sum(w for w, _ in known) if known else 0.0
    alone = max(total - images, 0.0)
    return Noise(float(np.sqrt(total)), float(np.sqrt(alone)), freedom)


def _shared(row: Runs) -> float:
    """Return the part of the variance over seeds that comes from there being few images.

    Were there none, the mean over S seeds would vary with the images as much as each seed does;
    as far as it varies less, images do different things to different seeds.
    """
    if row.resamples is None:
        return float("nan")
    count = len(row.values)
    each = float(np.mean(errors_of(row.resamples) ** 2))
    return max(each - row.variance_over_images(), 0.0) * count / (count - 1)
