"""Rows of several tasks side by side: a checkpoint's box AP and its k-NN in one line."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.leaderboard.rows import COSTS, Row, Table, Value
from benchmarks.leaderboard.runs import TableKey
from benchmarks.leaderboard.statistics.results import RowStatistics, TableStatistics, about_floors

# Of each task, as many columns as no terminal is too narrow for.
_COLUMNS = 2


@dataclass(frozen=True)
class WeightsKey:
    """What rows of different tasks must share to be about the same weights.

    Their names are not in it: what a file is called depends on the others of its command.

    Attributes:
        backbone: Name of the network.
        weights: What identifies them, see ``Row.weights``.
        seeds: Seeds with a result; fresh weights differ from seed to seed.
    """

    backbone: str
    weights: str
    seeds: tuple[int, ...]


def with_joined(tables: Sequence[Table]) -> list[Table]:
    """Return tables with those that join them in front.

    There is one for each kind of data (embedded, real, limited) that several tasks measured. Its
    rows are of the same weights and seeds. It ranks nothing: every column has a protocol of
    its own, and the tables it was made from do the ranking.

    Args:
        tables: One a task and protocol.
    """
    return [*map(_joined, _groups(tables)), *tables]


def joined_statistics(
    tables: Sequence[Table], statistics: Sequence[TableStatistics | None]
) -> list[TableStatistics]:
    """Return the intervals of joined tables, which are those of the tables they are made from.

    They rank nothing and compare nothing.

    Args:
        tables: One a task and protocol, as for ``with_joined``, whose order the result has.
        statistics: Of each; None where there are none.
    """
    own = {id(table): found for table, found in zip(tables, statistics, strict=True)}
    return [_intervals(_joined(group), group, own) for group in _groups(tables)]


def _intervals(
    joined: Table, tables: Sequence[Table], statistics: Mapping[int, TableStatistics | None]
) -> TableStatistics:
    names = _names(tables)
    by_run: dict[str, tuple[int, RowStatistics]] = {}
    for table in tables:
        found = statistics[id(table)]
        # A page has statistics of the first rows only.
        for row, own in zip(table.rows, found.rows if found else (), strict=False):
            by_run.update(dict.fromkeys(row.run_ids, (id(table), own)))
    rows = []
    for row in joined.rows:
        known = [by_run[run_id] for run_id in row.run_ids if run_id in by_run]
        intervals = {
            names[place, metric]: interval
            for place, own in known
            for metric, interval in own.intervals.items()
            if (place, metric) in names
        }
        rows.append(RowStatistics(intervals, None, (), "", one_seed=len(row.seeds) == 1))
    return TableStatistics.of_joined(rows, _floors(tables, statistics, names))


def _floors(
    tables: Sequence[Table],
    statistics: Mapping[int, TableStatistics | None],
    names: Mapping[tuple[int, str], str],
) -> tuple[str, ...]:
    """Return the sentences on the seed floors of rows with one seed, table after table."""
    sentences: list[str] = []
    for table in tables:
        found = statistics[id(table)]
        rows = zip(table.rows, found.rows if found else (), strict=False)
        named = [(row.entry, own) for row, own in rows]
        headline = names.get((id(table), table.headline), table.headline)
        sentences += about_floors(named, headline, table.key.protocol)
    return tuple(sentences)


def _groups(tables: Sequence[Table]) -> list[list[Table]]:
    """Return the tables that are joined, a group for each kind of data."""
    groups: dict[tuple[bool, int | None], list[Table]] = defaultdict(list)
    for table in tables:
        if table.columns:
            groups[table.key.mini, table.key.limit_images].append(table)
    return [group for group in groups.values() if len({t.key.task for t in group}) > 1]


def _joined(tables: Sequence[Table]) -> Table:
    names = _names(tables)
    cells: dict[WeightsKey, list[tuple[Table, Row]]] = defaultdict(list)
    for table in tables:
        for row in table.rows:
            if row.seeds:
                subject = WeightsKey(row.backbone, row.weights, row.seeds)
                cells[subject].append((table, row))
    why = _Reasons(tables)
    rows = [_row(subject, found, tables, names, why) for subject, found in cells.items()]
    columns = tuple(names.values())
    first = tables[0].key
    return Table(
        key=TableKey(
            task=" + ".join(dict.fromkeys(table.key.task for table in tables)),
            task_version=0,
            data=", ".join(dict.fromkeys(table.key.data for table in tables)),
            data_fingerprint="",
            mini=first.mini,
            protocol="; ".join(_about(table, names) for table in tables),
            limit_images=first.limit_images,
        ),
        headline="",
        columns=columns,
        metrics=columns,
        units={names[id(t), c]: t.units[c] for t in tables for c in t.columns[:_COLUMNS]},
        rows=tuple(sorted(rows, key=lambda row: (row.entry, row.seeds))),
        lower=tuple(names[id(t), c] for t in tables for c in t.columns[:_COLUMNS] if c in t.lower),
        heads=tuple(names[id(table), table.columns[0]] for table in tables),
    )


def _names(tables: Sequence[Table]) -> dict[tuple[int, str], str]:
    """Return the name of each column; one that several tables have gets a number."""
    seen: dict[str, int] = defaultdict(int)
    names = {}
    for table in tables:
        for column in table.columns[:_COLUMNS]:
            seen[column] += 1
            number = f" ({seen[column]})" if seen[column] > 1 else ""
            names[id(table), column] = f"{column}{number}"
    return names


def _about(table: Table, names: Mapping[tuple[int, str], str]) -> str:
    key = table.key
    columns = ", ".join(names[id(table), column] for column in table.columns[:_COLUMNS])
    return f"{columns}: {key.task} v{key.task_version} {key.protocol} on {key.data}"


def _row(
    subject: WeightsKey,
    found: Sequence[tuple[Table, Row]],
    tables: Sequence[Table],
    names: Mapping[tuple[int, str], str],
    why: "_Reasons",
) -> Row:
    measured = {id(table): row for table, row in found}
    values = {}
    for table in tables:
        own = measured.get(id(table))
        for column in table.columns[:_COLUMNS]:
            values[names[id(table), column]] = (
                own.values[column] if own else Value(None, reason=why(subject, table))
            )
    rows = [row for _, row in found]
    seconds = [value for row in rows if (value := row.costs["seconds"]) is not None]
    costs: dict[str, float | None] = dict.fromkeys(COSTS)
    costs["seconds"] = sum(seconds) if seconds else None
    doubts = [doubt for row in rows if (doubt := row.doubts.get("seconds"))]
    return Row(
        rank=None,
        entry=rows[0].entry,
        backbone=subject.backbone,
        pretrain=rows[0].pretrain,
        weights=subject.weights,
        recipe="",
        values=values,
        costs=costs,
        seeds=subject.seeds,
        note="; ".join(dict.fromkeys(row.note for row in rows if row.note)),
        run_ids=tuple(run_id for row in rows for run_id in row.run_ids),
        doubts={"seconds": min(doubts)} if doubts else {},
    )


class _Reasons:
    """Says why a subject has no number in a table that measured others."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._rows: dict[tuple[int, str, str], Row] = {}
        self._measured: set[tuple[str, str, str]] = set()
        for table in tables:
            for row in table.rows:
                self._rows[id(table), row.backbone, row.weights] = row
                if row.seeds:
                    self._measured.add((table.key.task, row.backbone, row.weights))

    def __call__(self, subject: WeightsKey, table: Table) -> str:
        """Return the reason."""
        row = self._rows.get((id(table), subject.backbone, subject.weights))
        if row is None:
            key = (table.key.task, subject.backbone, subject.weights)
            return "measured by other rules" if key in self._measured else "not measured"
        seeds = ", ".join(map(str, row.seeds))
        return f"measured with other seeds: {seeds}" if seeds else row.note or "no result"
