"""Measurements of a followed training against its epochs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from benchmarks.leaderboard.collected import Collected
from benchmarks.leaderboard.rows import COSTS, Row, Table, Value
from benchmarks.leaderboard.runs import TableKey
from benchmarks.leaderboard.statistics.results import Interval, RowStatistics, TableStatistics
from benchmarks.store.followed import Followed, FollowedCheckpoint

EPOCH = "epoch"

_Found = dict[int, tuple[Row, RowStatistics | None]]


def followed_tables(
    followed: Sequence[Followed],
    tables: Sequence[Table],
    statistics: Sequence[TableStatistics | None],
) -> list[Collected]:
    """Return a table for each followed training, a row for each measured checkpoint by epoch.

    Args:
        followed: Of the folder of runs.
        tables: One a task, protocol and data set.
        statistics: Of each table; None where there are none.
    """
    found = (_table(one, tables, statistics) for one in followed)
    return [one for one in found if one.table.rows]


def _table(
    followed: Followed, tables: Sequence[Table], statistics: Sequence[TableStatistics | None]
) -> Collected:
    checkpoints = {one.weights_sha256: one for one in followed.checkpoints}
    measured: dict[str, _Found] = defaultdict(dict)
    for place, (table, known) in enumerate(zip(tables, statistics, strict=True)):
        for number, row in enumerate(table.rows if table.headline else ()):
            sha = row.weights.partition(" ")[0]
            if sha in checkpoints and row.values[table.headline].mean is not None:
                sure = known.rows[number] if known and number < len(known.rows) else None
                measured[sha][place] = row, sure
    used = [place for place in range(len(tables)) if any(place in own for own in measured.values())]
    names = _names([tables[place] for place in used])
    columns = dict(zip(used, names, strict=True))
    order = [one for one in followed.checkpoints if one.weights_sha256 in measured]
    rows = [_row(one, measured[one.weights_sha256], columns, tables) for one in order]
    certain = [_sure(measured[one.weights_sha256], columns, tables) for one in order]
    shown = (EPOCH, *names)
    first = tables[used[0]].key if used else None
    table = Table(
        key=TableKey(
            task=f"training {followed.name}, followed",
            task_version=0,
            data=", ".join(dict.fromkeys(tables[place].key.data for place in used)),
            data_fingerprint="",
            mini=bool(first and first.mini),
            protocol="; ".join(
                f"{columns[p]}: {tables[p].key.task} v{tables[p].key.task_version} "
                f"{tables[p].key.protocol} on {tables[p].key.data}"
                for p in used
            ),
            limit_images=first.limit_images if first else None,
        ),
        headline="",
        columns=shown,
        metrics=shown,
        units={EPOCH: "", **{columns[p]: tables[p].units[tables[p].headline] for p in used}},
        rows=tuple(rows),
        lower=tuple(columns[p] for p in used if tables[p].headline in tables[p].lower),
        heads=shown,
    )
    return Collected(table, TableStatistics.of_joined(certain))


def _names(tables: Sequence[Table]) -> list[str]:
    """Return the name of each table's column; those of one metric are told apart by protocol."""
    heads = [table.headline for table in tables]
    return [
        head if heads.count(head) == 1 else f"{head} ({table.key.protocol}, {table.key.data})"
        for head, table in zip(heads, tables, strict=True)
    ]


def _row(
    checkpoint: FollowedCheckpoint,
    found: _Found,
    columns: Mapping[int, str],
    tables: Sequence[Table],
) -> Row:
    rows = [row for row, _ in found.values()]
    values = {
        name: found[place][0].values[tables[place].headline]
        if place in found
        else Value(None, reason="not measured")
        for place, name in columns.items()
    }
    epoch = Value(None, reason="its name has no number")
    if checkpoint.epoch is not None:
        epoch = Value(float(checkpoint.epoch))
    doubts = [doubt for row in rows if (doubt := row.doubts.get("seconds"))]
    seconds = [value for row in rows if (value := row.costs["seconds"]) is not None]
    return Row(
        rank=None,
        entry=rows[0].entry,
        backbone=rows[0].backbone,
        pretrain=rows[0].pretrain,
        weights=rows[0].weights,
        recipe="",
        values={EPOCH: epoch, **values},
        costs={**dict.fromkeys(COSTS), "seconds": sum(seconds) if seconds else None},
        seeds=rows[0].seeds,
        note="; ".join(dict.fromkeys(row.note for row in rows if row.note)),
        run_ids=tuple(run_id for row in rows for run_id in row.run_ids),
        doubts={"seconds": min(doubts)} if doubts else {},
    )


def _sure(found: _Found, columns: Mapping[int, str], tables: Sequence[Table]) -> RowStatistics:
    intervals: dict[str, Interval] = {}
    for place, (_, sure) in found.items():
        head = tables[place].headline
        if sure is not None and head in sure.intervals:
            intervals[columns[place]] = sure.intervals[head]
    one_seed = any(len(row.seeds) == 1 for row, _ in found.values())
    return RowStatistics(intervals, None, (), "", one_seed=one_seed)
