"""One row for many data sets: the mean over the sets of a collection, and each set's own number."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import fsum, sqrt
from typing import NamedTuple

from benchmarks.leaderboard.rows import COSTS, Row, Table, Value
from benchmarks.leaderboard.runs import TableKey
from benchmarks.leaderboard.statistics.results import Interval, RowStatistics, TableStatistics
from benchmarks.store.collections import Collection
from detection.small_sets import without_steps

CONFIDENCE = 0.95
# Rows that are compared with the best one in words.
_MOST_COMPARED = 5


class Collected(NamedTuple):
    """A table of a collection with its intervals."""

    table: Table
    statistics: TableStatistics


class _Rules(NamedTuple):
    """What tables of different data must share to be measured alike."""

    task: str
    task_version: int
    protocol: str
    limit_images: int | None


class _Subject(NamedTuple):
    """What a row is about, on any data; rows that only their start tells apart are numbered."""

    backbone: str
    weights: str
    recipe: str
    number: int


def collected_tables(
    collections: Sequence[Collection],
    tables: Sequence[Table],
    statistics: Sequence[TableStatistics | None],
) -> list[Collected]:
    """Return a table for each collection and set of rules, in the order of the collections.

    Args:
        collections: Of the folder.
        tables: One a task, protocol and data set.
        statistics: Of each table; None where there are none.
    """
    own = {id(table): found for table, found in zip(tables, statistics, strict=True)}
    return [
        _Builder(collection, group, own).build()
        for collection in collections
        for group in _groups(collection, tables)
    ]


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean over data sets and its interval over other sets and other trainings.

    The sets are taken as drawn from the kind of sets that the collection stands for. The scatter of
    their values has that of trainings in it, so that Student's t of the mean over n sets, with
    n - 1 degrees of freedom, covers both.

    Args:
        values: One a set, each the mean over its seeds.
    """
    count = len(values)
    mean = fsum(values) / count
    if count < 2:
        return Interval(mean, None, None, None, None)
    # It takes as long to import as everything else together.
    from scipy.stats import t

    error = sqrt(fsum((value - mean) ** 2 for value in values) / (count - 1) / count)
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    return Interval(mean, mean - half, mean + half, None, None)


def _groups(collection: Collection, tables: Sequence[Table]) -> Iterator[list[Table]]:
    """Yield the tables of a collection's sets that were measured alike."""
    order = {one.fingerprint: place for place, one in enumerate(collection.sets) if one.fingerprint}
    groups: dict[_Rules, list[Table]] = defaultdict(list)
    for table in tables:
        key = table.key
        if key.task == collection.task and key.data_fingerprint in order and table.headline:
            # A floor in steps makes runs on small sets longer; the rule is the same.
            protocol = without_steps(key.protocol)
            groups[_Rules(key.task, key.task_version, protocol, key.limit_images)].append(table)
    for group in groups.values():
        if len({table.key.data_fingerprint for table in group}) > 1:
            yield sorted(group, key=lambda table: order[table.key.data_fingerprint])


class _Builder:
    """Makes the table of one collection under one set of rules."""

    def __init__(
        self,
        collection: Collection,
        tables: Sequence[Table],
        statistics: Mapping[int, TableStatistics | None],
    ) -> None:
        self._collection = collection
        self._tables = tables
        self._statistics = statistics
        self._headline = tables[0].headline
        self._mean = f"mean {self._headline}"
        self._names = {one.fingerprint: one.name for one in collection.sets if one.fingerprint}
        self._faults = {one.name: one.fault for one in collection.sets if not one.fingerprint}

    def build(self) -> Collected:
        found: dict[_Subject, dict[str, tuple[Row, RowStatistics | None]]] = defaultdict(dict)
        for table in self._tables:
            known = self._statistics[id(table)]
            sure = known.rows if known else ()
            for place, row in enumerate(table.rows):
                subject = _Subject(row.backbone, row.weights, row.recipe, 1)
                while table.key.data_fingerprint in found[subject]:
                    subject = subject._replace(number=subject.number + 1)
                own = sure[place] if place < len(sure) else None
                found[subject][table.key.data_fingerprint] = row, own
        rows = [(self._row(subject, sets), sets) for subject, sets in found.items()]
        lower = self._headline in self._tables[0].lower
        rows.sort(key=lambda pair: self._place(pair[0], lower))
        first = self._tables[0]
        columns = (self._mean, *self._names.values(), *self._faults)
        table = Table(
            key=self._key(),
            headline="",
            columns=columns,
            metrics=columns,
            units=dict.fromkeys(columns, first.units[self._headline]),
            rows=tuple(row for row, _ in rows),
            lower=columns if lower else (),
            heads=(self._mean,),
        )
        return Collected(table, self._about(rows))

    def _key(self) -> TableKey:
        first = self._tables[0].key
        sets = ", ".join(self._names.values())
        broken = "".join(f"; {name}: left out, {why}" for name, why in self._faults.items())
        rules = f"{first.task} v{first.task_version} {without_steps(first.protocol)}"
        return TableKey(
            task=f"{self._collection.name} ({len(self._collection.sets)} data sets)",
            task_version=0,
            data=self._collection.name,
            data_fingerprint="",
            mini=False,
            protocol=f"{self._headline} of {rules} on {sets}{broken}; {self._mean}: every set "
            "counts the same, and its interval is over other sets of the kind and other trainings",
            limit_images=first.limit_images,
        )

    def _row(self, subject: _Subject, sets: Mapping[str, tuple[Row, RowStatistics | None]]) -> Row:
        rows = [row for row, _ in sets.values()]
        values = {name: self._value(sets.get(sha)) for sha, name in self._names.items()}
        missing = [name for name, value in values.items() if value.mean is None]
        numbers = [value.mean for value in values.values() if value.mean is not None]
        seeds = {row.seeds for row in rows}
        notes = dict.fromkeys(row.note for row in rows if row.note)
        if len(seeds) > 1:
            notes["not every set has the same seeds"] = None
        costs: dict[str, float | None] = dict.fromkeys(COSTS)
        seconds = [row.costs["seconds"] for row in rows]
        costs["seconds"] = fsum(value for value in seconds if value is not None)
        doubts = [doubt for row in rows if (doubt := row.doubts.get("seconds"))]
        mean = Value(None, reason=f"no result on {', '.join(missing)}")
        if not missing:
            mean = Value(fsum(numbers) / len(numbers))
        return Row(
            rank=None,
            entry=rows[0].entry,
            backbone=subject.backbone,
            pretrain=rows[0].pretrain,
            weights=subject.weights,
            recipe=subject.recipe,
            values={
                self._mean: mean,
                **values,
                **{name: Value(None, reason=why) for name, why in self._faults.items()},
            },
            costs=costs,
            seeds=max(seeds, key=len),
            note="; ".join(notes),
            run_ids=tuple(run_id for row in rows for run_id in row.run_ids),
            doubts={"seconds": min(doubts)} if doubts else {},
        )

    def _value(self, found: tuple[Row, RowStatistics | None] | None) -> Value:
        if found is None:
            return Value(None, reason="not measured")
        value = found[0].values[self._headline]
        return value if value.mean is not None else replace(value, reason=found[0].note or "failed")

    def _place(self, row: Row, lower: bool) -> tuple[bool, float, str]:
        mean = row.values[self._mean].mean
        return mean is None, 0.0 if mean is None else mean if lower else -mean, row.entry

    def _about(
        self, rows: Sequence[tuple[Row, Mapping[str, tuple[Row, RowStatistics | None]]]]
    ) -> TableStatistics:
        """Return the intervals: of each set as in its own table, of the mean over the sets."""
        certain = []
        for row, sets in rows:
            intervals = {
                self._names[sha]: own.intervals[self._headline]
                for sha, (_, own) in sets.items()
                if own is not None and self._headline in own.intervals
            }
            if row.values[self._mean].mean is not None:
                intervals[self._mean] = mean_interval(self._numbers(row))
            one_seed = any(len(own.seeds) == 1 for own, _ in sets.values())
            certain.append(RowStatistics(intervals, None, (), "", one_seed=one_seed))
        return TableStatistics.of_joined(certain, [*self._compared([row for row, _ in rows])])

    def _numbers(self, row: Row) -> list[float]:
        values = [row.values[name].mean for name in self._names.values()]
        return [value for value in values if value is not None]

    def _compared(self, rows: Sequence[Row]) -> Iterator[str]:
        """Yield a sentence on the difference of each row from the first, set by set."""
        yield f"{self._mean}: ± over other sets of the kind and other trainings (Student's t)"
        whole = [row for row in rows if row.values[self._mean].mean is not None]
        for row in whole[1 : 1 + _MOST_COMPARED]:
            pairs = zip(self._numbers(row), self._numbers(whole[0]), strict=True)
            found = mean_interval([one - other for one, other in pairs])
            if found.low is not None:
                yield (
                    f"{row.entry} less {whole[0].entry}, set by set: {found.value:+.1f} "
                    f"({found.low:+.1f} to {found.high:+.1f})"
                )
