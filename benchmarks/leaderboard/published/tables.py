"""Published rows without measured ones beside them."""

from collections.abc import Sequence

from benchmarks.leaderboard.published.figures import PublishedRow
from benchmarks.leaderboard.published.protocols import foreign
from benchmarks.leaderboard.rows import Table
from benchmarks.leaderboard.runs import TableKey
from benchmarks.leaderboard.shown import ShownTable
from benchmarks.suites import get_task


def published_alone(
    tables: Sequence[ShownTable], published: Sequence[PublishedRow]
) -> list[ShownTable]:
    """Return a table for each protocol that was published and is in none of some tables.

    Args:
        tables: What is shown already.
        published: All published rows.
    """
    there = {row.row for shown in tables for row in shown.table.published}
    groups: dict[tuple[str, str], list[PublishedRow]] = {}
    for row in published:
        if row.row not in there:
            groups.setdefault((row.task, row.protocol), []).append(row)
    return [_table(task, protocol, rows) for (task, protocol), rows in groups.items()]


def _table(name: str, protocol: str, rows: Sequence[PublishedRow]) -> ShownTable:
    task, rules = get_task(name), foreign(protocol)
    assert task.published is not None
    metrics = tuple(dict.fromkeys(metric for row in rows for metric in row.values))
    best_first = sorted(rows, key=lambda row: -row.values.get(metrics[0], 0.0))
    key = TableKey(
        task=name,
        task_version=task.version,
        data=task.published.data,
        data_fingerprint="published",
        mini=False,
        protocol=f"{protocol} ({rules.about})" if rules else protocol,
        limit_images=None,
    )
    units = {metric: task.metrics[metric].unit for metric in metrics}
    return ShownTable(
        Table(key, metrics[0], metrics, metrics, units, (), (), tuple(best_first)), ()
    )
