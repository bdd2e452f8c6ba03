"""Intervals, noise floors, rank intervals and brackets of a table."""

from collections.abc import Mapping

from benchmarks.leaderboard.rows import Table
from benchmarks.leaderboard.statistics.results import Difference, TableStatistics
from benchmarks.sweep.record import RunRecord
from benchmarks.sweep.store import Store


def table_statistics(
    table: Table, store: Store, records: Mapping[str, RunRecord]
) -> TableStatistics:
    """Return the statistics of a table that is not joined.

    Args:
        table: From ``leaderboard.rows.make_tables``.
        store: The folder of runs; what its per-image results come to is remembered in its cache.
        records: By run id, see ``Scan.records``.
    """
    raise NotImplementedError


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
    raise NotImplementedError
