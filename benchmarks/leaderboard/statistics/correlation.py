"""Does ImageNet predict COCO? Rank correlations over entries that both have measured."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.by_image.images import Floats
from benchmarks.leaderboard.rows import Row, Table
from benchmarks.leaderboard.statistics.chance import LEVEL
from benchmarks.leaderboard.statistics.results import (
    Interval,
    Point,
    Prediction,
    Rank,
    TableStatistics,
)
from benchmarks.suites import find_task

# Three points can be in order by luck in one case of three.
LEAST_POINTS = 4
_Valued = tuple[Row, Mapping[str, Interval]]

_NUM_DRAWS = 2_000
_SEED = 0
# Pairs of points looked at together.
_CELLS_AT_ONCE = 2**22


def predictions(
    tables: Sequence[Table], statistics: Mapping[int, TableStatistics]
) -> list[Prediction]:
    """Return how well each ImageNet headline predicts APbox.

    Args:
        tables: From ``leaderboard.rows.make_tables``.
        statistics: Of the tables, by their position.
    """
    found = []
    for j, coco in enumerate(tables):
        task = find_task(coco.key.task)
        if task is None or not task.is_transfer or not coco.headline or j not in statistics:
            continue
        for i, other in enumerate(tables):
            alike = (other.key.mini, other.key.limit_images) == (
                coco.key.mini,
                coco.key.limit_images,
            )
            if alike and _predictor(other) and i in statistics:
                found.append(_prediction((other, statistics[i]), (coco, statistics[j])))
    return found


def _predictor(table: Table) -> str:
    """Return what a table's headline is called in a sentence, empty if it predicts nothing."""
    task = find_task(table.key.task)
    return task.predictor if task is not None and task.headline == table.headline else ""


def spearman(x: Floats, y: Floats) -> Floats:
    """Return Spearman's correlation of each row, NaN where one side is constant.

    Args:
        x: (B, N).
        y: (B, N).
    """
    return _pearson(_ranks(x), _ranks(y))


def kendall(x: Floats, y: Floats) -> Floats:
    """Return Kendall's tau-b of each row, NaN where one side is constant.

    Args:
        x: (B, N).
        y: (B, N).
    """
    dx, dy = (np.sign(a[:, :, None] - a[:, None, :]).astype(np.int8) for a in (x, y))
    agree = np.einsum("bij,bij->b", dx, dy, dtype=np.float64)
    pairs = np.count_nonzero(dx, axis=(1, 2)) * np.count_nonzero(dy, axis=(1, 2)).astype(float)
    unknown = np.full(len(x), np.nan)
    found: Floats = np.divide(agree, np.sqrt(pairs), out=unknown, where=pairs > 0)
    return found


def _prediction(
    first: tuple[Table, TableStatistics], second: tuple[Table, TableStatistics]
) -> Prediction:
    x_table, y_table = first[0], second[0]
    points = _points(first, second)
    about = " and ".join(
        f"{key.task} v{key.task_version} {key.protocol} on {key.data}"
        for key in (x_table.key, y_table.key)
    )
    x = np.array([[point.x.value for point in points]])
    y = np.array([[point.y.value for point in points]])
    known = len(points) >= LEAST_POINTS and not np.isnan(spearman(x, y)[0])
    ranks = [_with_interval(f, x[0], y[0]) for f in (spearman, kendall)] if known else []
    return Prediction(
        x=x_table.headline,
        y=y_table.headline,
        about=about,
        mini=y_table.key.mini,
        points=points,
        spearman=ranks[0] if ranks else None,
        kendall=ranks[1] if ranks else None,
        sentence=_sentence(x_table, y_table.headline, len(points), ranks),
    )


def _points(
    first: tuple[Table, TableStatistics], second: tuple[Table, TableStatistics]
) -> tuple[Point, ...]:
    """Return the entries with a value in both tables; one twice in a table by its best row."""
    x_rows, y_rows = (_by_weights(*side) for side in (first, second))
    names = first[0].headline, second[0].headline
    found = []
    for key, (y_row, y_intervals) in y_rows.items():
        if key in x_rows:
            x = x_rows[key][1][names[0]]
            found.append(Point(y_row.entry, y_row.weights, x, y_intervals[names[1]]))
    return tuple(found)


def _by_weights(table: Table, statistics: TableStatistics) -> dict[tuple[str, str], _Valued]:
    found: dict[tuple[str, str], _Valued] = {}
    for row, own in zip(table.rows, statistics.rows, strict=True):
        if table.headline in own.intervals:
            found.setdefault((row.backbone, row.weights), (row, own.intervals))
    return found


def _with_interval(correlate: Callable[[Floats, Floats], Floats], x: Floats, y: Floats) -> Rank:
    """Return a correlation, and where it would lie with other entries of the same kind."""
    draws = np.random.default_rng(_SEED).integers(0, len(x), (_NUM_DRAWS, len(x)))
    size = max(1, _CELLS_AT_ONCE // len(x) ** 2)
    parts = [draws[start : start + size] for start in range(0, _NUM_DRAWS, size)]
    drawn = np.concatenate([correlate(x[part], y[part]) for part in parts])
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, (LEVEL / 2, 1 - LEVEL / 2)).tolist()
    return Rank(float(correlate(x[None], y[None])[0]), low, high)


def _ranks(values: Floats) -> Floats:
    """Return ranks from 1, equal values sharing the mean of theirs."""
    ours, theirs = values[:, :, None], values[:, None, :]
    below, equal = (ours > theirs).sum(axis=2), (ours == theirs).sum(axis=2)
    found: Floats = below + (equal + 1) / 2
    return found


def _pearson(x: Floats, y: Floats) -> Floats:
    x, y = (a - a.mean(axis=1, keepdims=True) for a in (x, y))
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    unknown = np.full(len(x), np.nan)
    found: Floats = np.divide((x * y).sum(axis=1), scale, out=unknown, where=scale > 0)
    return found


def _sentence(table: Table, y: str, count: int, ranks: Sequence[Rank]) -> str:
    name, x = _predictor(table), table.headline
    if not ranks:
        return (
            f"{count} entries have both {x} and {y}; {LEAST_POINTS} with different values are "
            f"needed to say whether {name} predicts {y}."
        )
    rank, tau = ranks
    if rank.low is not None and rank.low > 0:
        verdict = f"{name} ranks them much as {y} does"
    elif rank.high is not None and rank.high < 0:
        verdict = f"{name} ranks them against {y}"
    else:
        verdict = f"{name} does not say which has the higher {y}"
    return (
        f"Over {count} entries {verdict}: Spearman {rank.value:.2f} [{rank.low:.2f}, "
        f"{rank.high:.2f}], Kendall {tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}]."
    )
