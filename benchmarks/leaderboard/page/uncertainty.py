"""How sure the numbers are, as the page's JSON."""

import math
from typing import Any

import numpy as np

from benchmarks.by_image.images import Floats
from benchmarks.by_image.resamples import variances_of_differences
from benchmarks.leaderboard.rows import Table
from benchmarks.leaderboard.statistics.results import (
    Interval,
    Noise,
    Point,
    Prediction,
    Rank,
    RowStatistics,
    TableStatistics,
)

# Rows of which all pairs are in the page; 300 rows have 45,000 pairs, too many bytes.
_PAIRED = 100


def statistics_of(table: Table, statistics: TableStatistics) -> dict[str, Any]:
    """Return a table's statistics; of rows that the page leaves out, nothing.

    Args:
        table: As the page shows it: the first rows.
        statistics: Of the whole table.
    """
    rows = statistics.rows[: len(table.rows)]
    names = [name for name in table.columns if name in statistics.resamples]
    return {
        "rows": [
            {**_row(table, row), "fresh": bool(fresh)}
            for row, fresh in zip(rows, statistics.fresh, strict=False)
        ],
        "noise": {name: _noise(noise) for name, noise in statistics.noise.items()},
        "fresh_noise": {name: _noise(noise) for name, noise in statistics.fresh_noise.items()},
        "brackets": [
            [first, min(last, len(rows) - 1)]
            for first, last in statistics.brackets
            if first < len(rows) - 1
        ],
        "num_images": statistics.num_images,
        "num_resamples": statistics.num_resamples,
        # The lower triangle, row after row: errors of paired differences from the images alone.
        "errors": {
            name: _errors(statistics.resamples[name], min(len(rows), _PAIRED)) for name in names
        },
    }


def prediction(found: Prediction) -> dict[str, Any]:
    """Return a correlation and its points."""
    return {
        "x": found.x,
        "y": found.y,
        "about": found.about,
        "mini": found.mini,
        "points": [_point(point) for point in found.points],
        "spearman": _rank(found.spearman),
        "kendall": _rank(found.kendall),
        "sentence": found.sentence,
    }


def _row(table: Table, row: RowStatistics) -> dict[str, Any]:
    found = [row.intervals.get(name) for name in table.metrics]
    return {
        "intervals": [_interval(interval) if interval else None for interval in found],
        "rank": list(row.rank) if row.rank else None,
        "note": row.note,
        "one_seed": row.one_seed,
    }


def _interval(interval: Interval) -> list[float | None]:
    values = (interval.low, interval.high, interval.images_error, interval.seeds_error)
    return [_short(value) for value in values]


def _noise(noise: Noise) -> list[float | str | None]:
    """Return what the page says of the scatter over trainings; no degrees mean infinitely many."""
    degrees = noise.degrees if math.isfinite(noise.degrees) else None
    stored = [_short(noise.stored), noise.source, noise.assumed]
    return [_short(noise.floor), noise.freedom, _short(degrees), *stored]


def _point(point: Point) -> dict[str, Any]:
    return {
        "entry": point.entry,
        "weights": point.weights,
        "x": [_short(v) for v in (point.x.value, point.x.low, point.x.high)],
        "y": [_short(v) for v in (point.y.value, point.y.low, point.y.high)],
    }


def _rank(rank: Rank | None) -> list[float | None] | None:
    return [_short(v) for v in (rank.value, rank.low, rank.high)] if rank else None


def _errors(resamples: Floats, count: int) -> list[float | None] | None:
    """Return standard errors of the differences of all pairs of the first rows."""
    first, second = np.tril_indices(count, -1)
    variances = variances_of_differences(resamples, first, second)
    if np.isnan(variances).all():
        return None
    return [None if np.isnan(value) else round(float(value), 3) for value in np.sqrt(variances)]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
