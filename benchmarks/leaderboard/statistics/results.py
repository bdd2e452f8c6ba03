"""What the statistics say, in plain values that tables, pages and files can show."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from benchmarks.by_image.images import Floats

Word = Literal["better", "worse", "tie"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A number and where it would lie with other images and other seeds.

    Attributes:
        value: Mean over seeds, in the metric's unit.
        low: Lower end at ``CONFIDENCE``; None where neither images nor seeds say anything.
        high: Upper end.
        images_error: Standard error from the choice of test images; None without per-image results.
        seeds_error: Standard error from the choice of seeds; None where no row has two seeds.
    """

    value: float
    low: float | None
    high: float | None
    images_error: float | None
    seeds_error: float | None


@dataclass(frozen=True)
class Noise:
    """How far two runs of one entry lie apart when nothing but the seed differs.

    Attributes:
        floor: Standard deviation over seeds, pooled over the rows of a table; None where no row
            has two seeds.
        seeds_alone: The part of it that would be left with endlessly many test images.
        freedom: Degrees of freedom: seeds less rows, of rows with two seeds or more.
    """

    floor: float | None
    seeds_alone: float | None
    freedom: int


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
        note: Why something is missing, a sentence; may be empty.
    """

    intervals: Mapping[str, Interval]
    rank: tuple[int, int] | None
    brackets: tuple[int, ...]
    note: str


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
