"""Intervals, noise floors, rank intervals and brackets of a table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from backbones.checkpoint import FRESH
from benchmarks.by_image.images import Floats
from benchmarks.by_image.resamples import (
    NUM_RESAMPLES,
    Resamples,
    errors_of,
    variances_of_differences,
)
from benchmarks.by_image.runs import NoImagesError, resamples_of
from benchmarks.leaderboard.rows import Row, Table
from benchmarks.leaderboard.statistics.chance import LEVEL, Spread, holm
from benchmarks.leaderboard.statistics.ranks import Standing, standings
from benchmarks.leaderboard.statistics.results import (
    Difference,
    Interval,
    Noise,
    RowStatistics,
    TableStatistics,
    Word,
)
from benchmarks.leaderboard.statistics.seeds import Runs, Stored, noise
from benchmarks.seed_floors import SeedFloor, find_floor
from benchmarks.store.folders import Store
from benchmarks.store.record import RunRecord
from benchmarks.suites import find_measurement, image_file_of

Positions = npt.NDArray[np.int64]

_PERCENT = "percent"
# Most rows of which all pairs are compared, which takes a second.
MOST_RANKED = 1_000


def table_statistics(
    table: Table,
    store: Store,
    records: Mapping[str, RunRecord],
    like: TableStatistics | None = None,
) -> TableStatistics:
    """Return the statistics of a table that is not joined.

    Args:
        table: From ``leaderboard.rows.make_tables``.
        store: The folder of runs; what its per-image results come to is remembered in its cache.
        records: By run id, see ``Scan.records``.
        like: Statistics of a larger table, whose noise over seeds is taken; None takes that of
            this table's own rows.
    """
    done = [done_runs(row, records) for row in table.rows]
    kept, notes = _resamples(store, done)
    statistics = _estimates(table, done, kept, like)
    places, brackets = _standings(table, statistics)
    intervals = {name: _intervals(table, statistics, name) for name in table.metrics}
    rows = tuple(
        RowStatistics(
            intervals={n: f for n, found in intervals.items() if (f := found[i]) is not None},
            rank=places[i].rank if i in places else None,
            brackets=places[i].brackets if i in places else (),
            note=notes[i] or _unknown(table, intervals, i),
            one_seed=len(done[i]) == 1,
            noise=_noise_of(statistics, table.headline, i),
        )
        for i in range(len(table.rows))
    )
    return replace(statistics, rows=rows, brackets=brackets)


def _estimates(
    table: Table,
    done: Sequence[Sequence[RunRecord]],
    kept: Mapping[str, Resamples],
    like: TableStatistics | None,
) -> TableStatistics:
    """Return what the runs of a table say of chance, before any row is judged."""
    num_images = next((found.num_images for found in kept.values()), None)
    by_metric = {
        name: [_runs(records_of, name, kept) for records_of in done] for name in table.metrics
    }
    fresh = np.array([row.weights.startswith(FRESH) for row in table.rows], dtype=bool)
    loaded, drawn = (
        (like.noise, like.fresh_noise) if like is not None else _noises(table, by_metric, fresh)
    )
    return TableStatistics(
        rows=(),
        noise=loaded,
        brackets=(),
        num_images=num_images,
        num_resamples=NUM_RESAMPLES,
        resamples={name: _means(rows) for name, rows in by_metric.items()},
        runs={name: np.array([len(r.values) for r in rows]) for name, rows in by_metric.items()},
        higher={
            name: entry.higher_is_better
            for row in done
            for record in row
            for name, entry in record.metrics.items()
        },
        fresh=fresh,
        fresh_noise=drawn,
    )


def difference(
    table: Table, statistics: TableStatistics, metric: str, first: int, second: int
) -> Difference:
    """Return the difference of two rows of a table, one comparison among no others.

    Args:
        table: The table.
        statistics: Its own.
        metric: With a value in both rows.
        first: Position of a row.
        second: Position of the row that is subtracted.
    """
    values = values_of(table, metric)
    spread = spread_of_pairs(statistics, metric, np.array([first]), np.array([second]))
    value = values[first] - values[second]
    p_values = spread.p_values(np.array([value]))
    return judged(np.array([value]), spread, statistics.higher[metric], p_values)[0]


def judged(values: Floats, spread: Spread, higher: bool, corrected: Floats) -> list[Difference]:
    """Return differences with a verdict each.

    Args:
        values: (N,) of the differences.
        spread: Their variances.
        higher: Whether more is better.
        corrected: (N,) p-values, corrected for the number of comparisons.
    """
    p_values, halves = spread.p_values(values), spread.half_widths()
    found = []
    for value, p, half, p_corrected in zip(values, p_values, halves, corrected, strict=True):
        if np.isnan(p):
            found.append(Difference(float(value), None, None, None, None, None))
            continue
        word: Word = "tie"
        if p_corrected < LEVEL:
            word = "better" if (value > 0) == higher else "worse"
        ends = float(value - half), float(value + half)
        found.append(Difference(float(value), *ends, float(p), float(p_corrected), word))
    return found


def spread_of_pairs(
    statistics: TableStatistics, metric: str, first: Positions, second: Positions
) -> Spread:
    """Return the variances of differences between rows.

    Args:
        statistics: Of the table.
        metric: Of its metrics.
        first: (N,) positions of rows.
        second: (N,) positions of the rows that are subtracted.
    """
    images = variances_of_differences(statistics.resamples[metric], first, second)
    return spread_of(statistics, metric, images, (first, second))


def spread_of(
    statistics: TableStatistics, metric: str, images: Floats, sides: Sequence[Positions]
) -> Spread:
    """Return the variances of sums or differences of rows.

    Args:
        statistics: Of the table.
        metric: Of its metrics.
        images: (N,) variances from the choice of images, NaN where unknown.
        sides: (N,) positions of the rows that enter, once for each of them.
    """
    loaded = statistics.noise[metric]
    kinds = (loaded, statistics.fresh_noise.get(metric, loaded))
    # Where images say nothing, what they do to single seeds is part of the noise of seeds. A stored
    # floor, which is about other networks, cannot stand in for both.
    whole, alone = (
        np.array([np.nan if value is None else value**2 for value in values])
        for values in (
            [kind.floor if kind.freedom else None for kind in kinds],
            [kind.seeds_alone for kind in kinds],
        )
    )
    seeds = np.zeros(len(images))
    for rows in sides:
        kind = statistics.fresh[rows].astype(np.int64)
        own = np.where(np.isnan(images), whole[kind], alone[kind])
        seeds = seeds + own / np.maximum(statistics.runs[metric][rows], 1)
    freedom = min(kind.degrees for kind in kinds)
    return Spread(images, seeds, statistics.num_images or 0, freedom)


def done_runs(row: Row, records: Mapping[str, RunRecord]) -> list[RunRecord]:
    """Return the records of success of a row, by seed.

    Args:
        row: Of a table.
        records: By run id.
    """
    found = [records[run_id] for run_id in row.run_ids if run_id in records]
    return [record for record in found if record.status == "done"]


def values_of(table: Table, metric: str) -> Floats:
    """Return the value of each row, NaN where it has none."""
    values = [row.values[metric].mean for row in table.rows]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _resamples(
    store: Store, rows: Sequence[Sequence[RunRecord]]
) -> tuple[dict[str, Resamples], list[str]]:
    """Return what runs have of the most common set of images, and a note on each row without."""
    found: dict[str, Resamples] = {}
    notes = []
    for row in rows:
        note = ""
        for record in row:
            try:
                found[record.run_id] = resamples_of(store, record, image_file_of(record.spec.task))
            except NoImagesError as error:
                note = f"no interval over images: {error}"
        notes.append(note)
    sets = Counter(resamples.images for resamples in found.values())
    common = sets.most_common(1)[0][0] if sets else ""
    for position, row in enumerate(rows):
        others = [r for r in row if r.run_id in found and found[r.run_id].images != common]
        if others:
            notes[position] = "no interval over images: it was tested on other images than the rest"
        for record in others:
            del found[record.run_id]
    return found, notes


def _runs(records: Sequence[RunRecord], metric: str, kept: Mapping[str, Resamples]) -> Runs:
    valued = [(r, value) for r in records if (value := r.value(metric)) is not None]
    resamples = [
        kept[record.run_id].values[metric]
        for record, _ in valued
        if record.run_id in kept and metric in kept[record.run_id].values
    ]
    whole = bool(valued) and len(resamples) == len(valued)
    return Runs(
        values=np.array([value for _, value in valued], dtype=np.float64),
        resamples=np.stack(resamples).astype(np.float64) if whole else None,
    )


def _noises(
    table: Table, rows: Mapping[str, Sequence[Runs]], fresh: npt.NDArray[np.bool_]
) -> tuple[dict[str, Noise], dict[str, Noise]]:
    """Return the noise of each metric, and that of rows with fresh weights where it differs."""
    floor = floor_of(table)
    if floor is None or not floor.fresh or fresh.all() or not fresh.any():
        kind = bool(fresh.all())
        return {n: noise(own, _stored(table, floor, n, kind)) for n, own in rows.items()}, {}
    kinds = []
    for kind in (False, True):
        places = np.flatnonzero(fresh == kind).tolist()
        kinds.append(
            {
                name: noise([own[i] for i in places], _stored(table, floor, name, kind))
                for name, own in rows.items()
            }
        )
    return kinds[0], kinds[1]


def floor_of(table: Table) -> SeedFloor | None:
    """Return the seed floor of a table's protocol, None where its task has none."""
    task = find_measurement(table.key.task)
    if task is None:
        return None
    floor = find_floor(
        task.seed_floors, table.key.protocol, limited=table.key.limit_images is not None
    )
    if floor is None or floor.assumed or table.key.mini:
        return floor
    # All that was measured was measured on the mini data.
    return replace(floor, assumed=True)


def _noise_of(statistics: TableStatistics, metric: str, row: int) -> Noise | None:
    """Return the scatter over trainings that a row's interval in a metric rests on."""
    loaded = statistics.noise.get(metric)
    return statistics.fresh_noise.get(metric, loaded) if statistics.fresh[row] else loaded


def _stored(table: Table, floor: SeedFloor | None, metric: str, fresh: bool) -> Stored | None:
    if floor is None:
        return None
    known = floor.of(metric, table.headline, fresh)
    return Stored(known, floor.source_of(metric, fresh), floor.assumed)


def _unknown(table: Table, intervals: Mapping[str, Sequence[Interval | None]], row: int) -> str:
    """Return why a row with a result has no interval, empty where it has one."""
    found = intervals[table.headline][row] if table.headline in intervals else None
    if found is None or found.low is not None or found.seeds_error is not None:
        return ""
    return (
        f"no interval: 1 seed, and no seed floor is known for protocol {table.key.protocol}; "
        "--seeds 3 gives one"
    )


def _means(rows: Sequence[Runs]) -> Floats:
    nothing = np.full(NUM_RESAMPLES, np.nan)
    found: Floats = np.stack(
        [nothing if row.resamples is None else row.resamples.mean(axis=0) for row in rows]
    )
    return found


def _intervals(table: Table, statistics: TableStatistics, metric: str) -> list[Interval | None]:
    """Return the interval of each row that has a value."""
    values = values_of(table, metric)
    images = errors_of(statistics.resamples[metric]) ** 2
    spread = spread_of(statistics, metric, images, (np.arange(len(table.rows)),))
    halves = spread.half_widths()
    bounds = (0.0, 100.0) if table.units[metric] == _PERCENT else (-np.inf, np.inf)
    found: list[Interval | None] = []
    for value, half, image, seed in zip(values, halves, images, spread.seeds, strict=True):
        if np.isnan(value):
            found.append(None)
            continue
        low, high = np.clip((value - half, value + half), *bounds).tolist()
        known = not np.isnan(half)
        found.append(
            Interval(
                value=float(value),
                low=low if known else None,
                high=high if known else None,
                images_error=_root(image),
                seeds_error=_root(seed),
            )
        )
    return found


def _root(variance: float) -> float | None:
    return None if np.isnan(variance) else float(np.sqrt(variance))


def _standings(
    table: Table, statistics: TableStatistics
) -> tuple[dict[int, Standing], tuple[tuple[int, int], ...]]:
    """Return by position the standing of the rows that are ranked, and the brackets."""
    ranked = [i for i, row in enumerate(table.rows) if row.rank is not None][:MOST_RANKED]
    if len(ranked) < 2 or table.headline not in statistics.higher:
        return {i: Standing((1, 1), ()) for i in ranked}, ()
    first, second = np.triu_indices(len(ranked), 1)
    rows = np.array(ranked)
    values = values_of(table, table.headline)
    spread = spread_of_pairs(statistics, table.headline, rows[first], rows[second])
    corrected = holm(spread.p_values(values[rows[first]] - values[rows[second]]))
    # The rows stand best first, so that the first of a pair is the better one.
    surely = np.zeros((len(ranked), len(ranked)), dtype=bool)
    surely[first, second] = corrected < LEVEL
    return standings(surely, ranked)
