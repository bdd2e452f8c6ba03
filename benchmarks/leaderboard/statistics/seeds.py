"""What the choice of seeds does to numbers, and what it adds to the choice of images.

The model (``docs/statistics.md``): a run's value is the entry's own, plus what its seed does, plus
what the images do to the entry, plus what the images do to this seed's network. Seeds are taken to
do as much to every entry of a table, because the two or three seeds of one entry say next to
nothing about a variance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.by_image.images import Floats
from benchmarks.by_image.resamples import errors_of
from benchmarks.leaderboard.statistics.results import FLOOR_WEIGHT, Noise


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


@dataclass(frozen=True)
class Stored:
    """One metric's seed floor, see ``seed_floors.SeedFloor``.

    Attributes:
        floor: Standard deviation over trainings.
        source: Where it comes from.
        assumed: Whether it is an assumption.
    """

    floor: float
    source: str
    assumed: bool


def noise(rows: Sequence[Runs], stored: Stored | None = None) -> Noise:
    """Return the noise of a metric: the seeds of a table's rows pooled with the stored floor.

    The floor enters as ``FLOOR_WEIGHT`` degrees of freedom. So a table's own seeds soon outweigh a
    wrong floor, and two or three seeds that happen to agree do not pass for certainty.

    Args:
        rows: Of a table.
        stored: The protocol's floor; None without one.
    """
    several = [row for row in rows if len(row.values) > 1]
    freedom = sum(len(row.values) - 1 for row in several)
    weight = 0 if stored is None else FLOOR_WEIGHT
    if not freedom + weight:
        return Noise(None, None, 0)
    squares = sum(float(np.var(row.values)) * len(row.values) for row in several)
    if stored is not None:
        squares += FLOOR_WEIGHT * stored.floor**2
    total = squares / (freedom + weight)
    alone = max(total - _images_part(several), 0.0)
    found = Noise(float(np.sqrt(total)), float(np.sqrt(alone)), freedom)
    if stored is None:
        return found
    return replace(found, stored=stored.floor, source=stored.source, assumed=stored.assumed)


def _images_part(several: Sequence[Runs]) -> float:
    """Return the part of the variance over seeds that is there only because images are few."""
    shares = [(len(row.values) - 1, _shared(row)) for row in several]
    known = [(weight, share) for weight, share in shares if not np.isnan(share)]
    return sum(w * s for w, s in known) / sum(w for w, _ in known) if known else 0.0


def _shared(row: Runs) -> float:
    """Return a row's part of the variance over seeds that comes from there being few images.

    Were there none, the mean over S seeds would vary with the images as much as each seed does;
    as far as it varies less, images do different things to different seeds.
    """
    if row.resamples is None:
        return float("nan")
    count = len(row.values)
    each = float(np.mean(errors_of(row.resamples) ** 2))
    return max(each - row.variance_over_images(), 0.0) * count / (count - 1)
