"""What the statistics say, in plain values that tables, pages and files can show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from benchmarks.by_image.images import Floats

Word = Literal["better", "worse", "tie"]

CONFIDENCE = 0.95
# A seed floor counts as much as five further seeds of one entry in a table: that many is the least
# that a measured floor rests on.
FLOOR_WEIGHT = 4
# Most rows that a sentence about several names.
MOST_NAMED = 3


@dataclass(frozen=True)
class Interval:
    """A number and where it would lie with other test images and another training.

    Attributes:
        value: Mean over seeds, in the metric's unit.
        low: Lower end at ``CONFIDENCE``; None where the scatter over trainings is unknown.
        high: Upper end.
        images_error: Standard error from the choice of test images; None without per-image results.
        seeds_error: Standard error from the choice of seeds, from the seeds of the table and the
            protocol's seed floor; None where there is neither.
    """

    value: float
    low: float | None
    high: float | None
    images_error: float | None
    seeds_error: float | None


@dataclass(frozen=True)
class Noise:
    """How far two trainings of one entry lie apart when only the seed differs.

    Attributes:
        floor: Standard deviation over trainings, from the seeds of a table's rows and the
            protocol's seed floor; None where there is neither.
        seeds_alone: The part of it that would be left with endlessly many test images.
        freedom: Degrees of freedom of the table's own seeds: seeds less rows, of rows with two
            seeds or more.
        stored: The protocol's seed floor; None without one.
        source: Where ``stored`` comes from; empty without one.
        assumed: ``stored`` was not measured under this protocol on these data.
    """

    floor: float | None
    seeds_alone: float | None
    freedom: int
    stored: float | None = None
    source: str = ""
    assumed: bool = False

    @property
    def degrees(self) -> float:
        """Degrees of freedom of ``floor`` in Student's t; infinite for a stored floor alone.

        The stored floor is taken as given, with the weight of ``FLOOR_WEIGHT`` degrees of freedom,
        so that only the table's own part of the sum is uncertain (Satterthwaite 1946).
        """
        if self.stored is None or not self.freedom:
            return float("inf") if self.stored is not None else float(self.freedom)
        return (FLOOR_WEIGHT + self.freedom) ** 2 / self.freedom


@dataclass(frozen=True)
class Difference:
    """One metric of one row less that of another.

    Attributes:
        value: In the metric's unit.
        low: Lower end at ``CONFIDENCE``; None where nothing is known about chance.
        high: Upper end.
        p: Two-sided, before any correction; None as ``low``.
        p_corrected: By Holm for the number of comparisons it was made among.
        word: "better" or "worse" where ``p_corrected`` is below 1 - ``CONFIDENCE``, for the first
            row and in the metric's own direction; else "tie". None as ``low``.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None
    p_corrected: float | None
    word: Word | None


@dataclass(frozen=True)
class RowStatistics:
    """Of a row of a table.

    Attributes:
        intervals: By metric, for those that have a value.
        rank: Best and worst rank by the headline that cannot be excluded; None without one.
        brackets: Positions in ``TableStatistics.brackets`` of those the row stands in.
        one_seed: Only one training is behind the row, so its scatter over trainings is taken from
            the protocol's seed floor and the table's other rows.
        noise: Scatter of the headline over trainings that the row's interval rests on; None in a
            table without a result.
        note: Why something is missing, a sentence; may be empty.
    """

    intervals: Mapping[str, Interval]
    rank: tuple[int, int] | None
    brackets: tuple[int, ...]
    note: str
    one_seed: bool = False
    noise: Noise | None = None


@dataclass(frozen=True)
class TableStatistics:
    """Of a table, see ``table.table_statistics``.

    Attributes:
        rows: In the order of the table's rows.
        noise: By metric.
        brackets: First and last position, in the table's rows, of entries next to each other that
            cannot be told apart by the headline; of two rows at least, none inside another.
        num_images: Test images behind the image intervals; None where there are none.
        num_resamples: Of these images.
        resamples: By metric (rows, R), the mean over a row's seeds under each choice of images;
            NaN where a row has no per-image results.
        runs: Runs behind each value, by metric (rows,).
        fresh: (rows,) Whether each seed draws the backbone's weights anew.
        fresh_noise: As ``noise``, of rows with fresh weights, where these scatter differently.
        floors: Of a joined table, the sentences of its tables on seed floors, see ``about_floors``.
        higher: By metric, whether more is better.
    """

    rows: tuple[RowStatistics, ...]
    noise: Mapping[str, Noise]
    brackets: tuple[tuple[int, int], ...]
    num_images: int | None
    num_resamples: int
    resamples: Mapping[str, Floats]
    runs: Mapping[str, npt.NDArray[np.int64]]
    higher: Mapping[str, bool]
    fresh: npt.NDArray[np.bool_]
    fresh_noise: Mapping[str, Noise]
    floors: tuple[str, ...] = ()

    @classmethod
    def of_joined(cls, rows: Sequence[RowStatistics], floors: Sequence[str] = ()) -> Self:
        """Return the statistics of a table that takes its rows' intervals from other tables.

        Args:
            rows: In the order of the table's rows.
            floors: Sentences below the table.
        """
        return cls(
            rows=tuple(rows),
            noise={},
            brackets=(),
            num_images=None,
            num_resamples=0,
            resamples={},
            runs={},
            higher={},
            fresh=np.zeros(len(rows), dtype=bool),
            fresh_noise={},
            floors=tuple(floors),
        )


@dataclass(frozen=True)
class Point:
    """An entry in a figure of two metrics.

    Attributes:
        entry: As shown.
        weights: See ``leaderboard.rows.Row.weights``.
        x: The ImageNet metric.
        y: The COCO metric.
    """

    entry: str
    weights: str
    x: Interval
    y: Interval


@dataclass(frozen=True)
class Rank:
    """A rank correlation, -1 to 1, with the ends of its interval at ``CONFIDENCE``."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Prediction:
    """How well one metric of an entry predicts another, over comparable entries.

    Attributes:
        x: Name of the predicting metric, such as "knn_top1".
        y: Name of the predicted one, such as "APbox".
        about: What the points share: tasks, protocols and data.
        mini: They are of the embedded mini data.
        points: One an entry.
        spearman: Of the points' ranks; None with fewer than ``correlation.LEAST_POINTS``.
        kendall: Tau-b; None as ``spearman``.
        sentence: The answer in words.
    """

    x: str
    y: str
    about: str
    mini: bool
    points: tuple[Point, ...]
    spearman: Rank | None
    kendall: Rank | None
    sentence: str


def about_floors(
    rows: Sequence[tuple[str, RowStatistics]], headline: str, protocol: str
) -> list[str]:
    """Return a sentence on rows with one seed for each floor that stands in for their scatter.

    Args:
        rows: Names of rows, with their statistics.
        headline: The table's headline.
        protocol: The table's protocol.
    """
    groups: dict[Noise, list[str]] = {}
    for name, row in rows:
        if row.one_seed and row.noise is not None and row.noise.stored is not None:
            groups.setdefault(row.noise, []).append(name)
    return [_about_floor(noise, names, headline, protocol) for noise, names in groups.items()]


def _about_floor(noise: Noise, names: Sequence[str], headline: str, protocol: str) -> str:
    more = len(names) - MOST_NAMED
    named = ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    if noise.stored == 0 and not noise.floor:
        return f"1 seed: {named}; {noise.source}, so that other seeds give the same number"
    kind = "assumed" if noise.assumed else "measured"
    others = f", pooled with the table's other seeds to {noise.floor:.2g}" if noise.freedom else ""
    return (
        f"1 seed: {named}; a new training may differ. The interval rests on the seed floor of "
        f"{protocol}, a standard deviation of {noise.stored:g} {headline} ({kind}: "
        f"{noise.source}){others}; three seeds measure it"
    )
