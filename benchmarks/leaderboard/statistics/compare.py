"""Rows of one table held against each other: differences, their chance, costs, a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from benchmarks.by_image.resamples import variances_of_differences
from benchmarks.leaderboard.facts import differing, row_facts
from benchmarks.leaderboard.rows import COSTS, Table
from benchmarks.leaderboard.statistics.arithmetic import about_arithmetic
from benchmarks.leaderboard.statistics.chance import LEVEL, Spread, holm
from benchmarks.leaderboard.statistics.results import (
    Difference,
    Interval,
    Noise,
    TableStatistics,
    about_floors,
)
from benchmarks.leaderboard.statistics.selection import Side
from benchmarks.leaderboard.statistics.table import (
    done_runs,
    judged,
    spread_of_pairs,
    table_statistics,
    values_of,
)
from benchmarks.store.folders import Store
from benchmarks.store.record import RunRecord
from benchmarks.store.timing import Doubt

# COCO's sizes of objects: numbers of their own, compared among themselves.
SIZES = ("APsbox", "APmbox", "APlbox", "APsmask", "APmmask", "APlmask")


@dataclass(frozen=True)
class Pair:
    """One metric of two subjects.

    Attributes:
        metric: Its name.
        first: Position of a subject.
        second: Position of the one that is subtracted.
        difference: First less second, judged for the first.
    """

    metric: str
    first: int
    second: int
    difference: Difference


@dataclass(frozen=True)
class Comparison:
    """Subjects that were measured by the same rules on the same data.

    Attributes:
        table: With a row a subject.
        names: Of the subjects, as typed.
        intervals: By metric, one a subject; None without a value.
        noise: By metric, pooled over all rows of the whole table.
        headline: A pair of subjects each, corrected among themselves.
        others: Of every other metric in the table's columns, likewise.
        sizes: Of ``SIZES``, likewise.
        costs: By key of ``leaderboard.rows.COSTS``, one a subject.
        doubts: By the same keys, why a subject's cost must not be compared; None where it may.
        facts: Facts about the detectors in which the subjects differ, one value a subject.
        num_images: Behind the intervals; None where there are none.
        notes: What a reader should know, sentences.
        verdict: In words, a sentence a pair.
    """

    table: Table
    names: tuple[str, ...]
    intervals: Mapping[str, tuple[Interval | None, ...]]
    noise: Mapping[str, Noise]
    headline: tuple[Pair, ...]
    others: tuple[Pair, ...]
    sizes: tuple[Pair, ...]
    costs: Mapping[str, tuple[float | None, ...]]
    doubts: Mapping[str, tuple[Doubt | None, ...]]
    facts: Mapping[str, tuple[str, ...]]
    num_images: int | None
    notes: tuple[str, ...]
    verdict: tuple[str, ...]


def compare(subjects: Sequence[Side], store: Store, records: Mapping[str, RunRecord]) -> Comparison:
    """Compare subjects of one table.

    Args:
        subjects: Two or more; see ``selection.select``.
        store: The folder of runs.
        records: By run id.
    """
    whole = subjects[0].table
    # The seeds of all rows say what seeds do; three of one row would say next to nothing.
    like = table_statistics(whole, store, records)
    noise = like.noise
    table = replace(whole, rows=tuple(subject.row for subject in subjects))
    statistics = table_statistics(table, store, records, like)
    columns = [name for name in table.columns if name != table.headline and name not in SIZES]
    headline = pairs_of(table, statistics, [table.headline])
    names = tuple(subject.name for subject in subjects)
    return Comparison(
        table=table,
        names=names,
        intervals={
            name: tuple(row.intervals.get(name) for row in statistics.rows)
            for name in table.metrics
        },
        noise=noise,
        headline=tuple(headline),
        others=tuple(pairs_of(table, statistics, columns)),
        sizes=tuple(pairs_of(table, statistics, [n for n in SIZES if n in table.metrics])),
        costs={name: tuple(row.costs[name] for row in table.rows) for name in COSTS},
        doubts={name: tuple(row.doubts.get(name) for row in table.rows) for name in COSTS},
        facts=differing([row_facts(done_runs(row, records)) for row in table.rows]),
        num_images=statistics.num_images,
        notes=(
            *_notes(names, statistics, table),
            *_normalisations(names, table, records),
            *about_arithmetic(names, table.rows, records),
        ),
        verdict=tuple(_verdict(pair, names, table, statistics) for pair in headline),
    )


def pairs_of(table: Table, statistics: TableStatistics, metrics: Sequence[str]) -> list[Pair]:
    """Return the differences of all pairs of rows in some metrics, corrected among themselves.

    Args:
        table: The table.
        statistics: Its own.
        metrics: Those without a value in a row are left out for it.
    """
    found: list[tuple[str, int, int, float]] = []
    spreads = []
    for metric in metrics:
        values = values_of(table, metric)
        places = [
            (i, j)
            for i, j in combinations(range(len(values)), 2)
            if not np.isnan(values[i] - values[j])
        ]
        if places:
            first, second = np.array(places).T
            spreads.append((metric, spread_of_pairs(statistics, metric, first, second)))
            found += [(metric, i, j, float(values[i] - values[j])) for i, j in places]
    own = {
        metric: np.array([value for name, _, _, value in found if name == metric])
        for metric, _ in spreads
    }
    p_values = [spread.p_values(own[metric]) for metric, spread in spreads]
    corrected = iter(holm(np.concatenate(p_values)).tolist() if p_values else ())
    differences: list[Difference] = []
    for metric, spread in spreads:
        mine = np.array([next(corrected) for _ in own[metric]])
        differences += judged(own[metric], spread, statistics.higher[metric], mine)
    return [Pair(*f[:3], difference=d) for f, d in zip(found, differences, strict=True)]


def _notes(names: Sequence[str], statistics: TableStatistics, table: Table) -> list[str]:
    notes = [
        f"{name}: {row.note}" for name, row in zip(names, statistics.rows, strict=True) if row.note
    ]
    rows = tuple(zip(names, statistics.rows, strict=True))
    notes += about_floors(rows, table.headline, table.key.protocol)
    if table.key.limit_images is not None:
        notes.append(f"limited to {table.key.limit_images} images: for trying out only")
    return notes


def _normalisations(
    names: Sequence[str], table: Table, records: Mapping[str, RunRecord]
) -> list[str]:
    """Return how images were normalised, where subjects differ in it or from their backbones."""
    found = []
    for name, row in zip(names, table.rows, strict=True):
        facts = next(records[run_id].backbone for run_id in row.run_ids if run_id in records)
        if facts.mean and facts.std:
            mean, std = ("/".join(f"{x:g}" for x in values) for values in (facts.mean, facts.std))
            found.append(f"{name}: images normalised with mean {mean} and std {std} of its weights")
    return found


def _verdict(pair: Pair, names: Sequence[str], table: Table, statistics: TableStatistics) -> str:
    """Return the verdict on a pair in words that hold for as many seeds as there are."""
    first, second, found = names[pair.first], names[pair.second], pair.difference
    single = statistics.rows[pair.first].one_seed or statistics.rows[pair.second].one_seed
    if found.word is None or found.low is None or found.high is None:
        why = (
            "1 seed says nothing about training again"
            if single
            else "nothing says how much of it is chance"
        )
        return f"{first} and {second}: {found.value:+.1f} {pair.metric}, and {why}"
    ends = f"{found.value:+.1f} {pair.metric} [{found.low:+.1f}, {found.high:+.1f}]"
    chance = f"p {found.p_corrected:.2g}"
    seeds = ", 1 seed" if single else ""
    if found.word != "tie":
        return f"{first} is {found.word} than {second}: {ends} ({chance}{seeds})"
    if single and _differ_on_images(pair, statistics):
        return (
            f"tie: these two trained networks differ, {ends}; a new training of {first} or "
            f"{second} may not ({chance}{seeds})"
        )
    images = np.isnan(statistics.resamples[pair.metric][[pair.first, pair.second]]).all()
    what = "training again explains" if images else "images and training again explain"
    return f"tie: {first} and {second} differ by {ends}, which {what} ({chance}{seeds})"


def _differ_on_images(pair: Pair, statistics: TableStatistics) -> bool:
    """Tell whether the images alone separate these two trained networks."""
    places = np.array([pair.first]), np.array([pair.second])
    images = variances_of_differences(statistics.resamples[pair.metric], *places)
    if np.isnan(images).any():
        return False
    alone = Spread(images, np.zeros(1), statistics.num_images or 0, np.inf)
    return bool(alone.p_values(np.array([pair.difference.value]))[0] < LEVEL)
