"""Tables across others: of collections of data sets, and of trainings that are followed."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.leaderboard.collected import Collected, collected_tables
from benchmarks.leaderboard.followed import followed_tables
from benchmarks.leaderboard.rows import Table
from benchmarks.leaderboard.statistics.results import TableStatistics
from benchmarks.store.collections import read_collections
from benchmarks.store.followed import read_followed


def tables_across(
    root: Path, tables: Sequence[Table], statistics: Sequence[TableStatistics | None]
) -> list[Collected]:
    """Return the tables that a folder of runs has across its data sets and checkpoints.

    Args:
        root: Folder of runs.
        tables: One a task, protocol and data set.
        statistics: Of each table; None where there are none.
    """
    return [
        *followed_tables(read_followed(root), tables, statistics),
        *collected_tables(read_collections(root), tables, statistics),
    ]
