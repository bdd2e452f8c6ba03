"""From a folder of records to a page."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.leaderboard.across import tables_across
from benchmarks.leaderboard.joined import joined_statistics, with_joined
from benchmarks.leaderboard.page.build import write_page
from benchmarks.leaderboard.page.document import MAX_ROWS, Board, make_document
from benchmarks.leaderboard.rows import Table
from benchmarks.leaderboard.statistics.correlation import predictions
from benchmarks.leaderboard.statistics.table import table_statistics
from benchmarks.store.folders import Scan, Store

# Rows behind the last one that is shown may tie with it; far behind, none does.
_JUDGED = 2 * MAX_ROWS


def publish(
    path: Path,
    tables: Sequence[Table],
    scan: Scan,
    store: Store,
    *,
    anonymous: bool = False,
    loaded_rates: bool = False,
) -> None:
    """Write the page of a folder of records.

    Args:
        path: Where to.
        tables: Those of the folder, without joined ones.
        scan: What the folder holds.
        store: The folder.
        anonymous: The scan has lost hosts, users and paths, and the folder shall not tell them.
        loaded_rates: Compare speeds that were measured while other work used the machine.

    Raises:
        PreflightError: The file cannot be written.
    """
    judged = [replace(table, rows=table.rows[:_JUDGED]) for table in tables]
    statistics = [table_statistics(table, store, scan.records) for table in judged]
    found = predictions(judged, dict(enumerate(statistics)))
    across = [] if anonymous else tables_across(store.root, judged, statistics)
    # Tables across data sets and epochs, then the joined ones, stand in front of the others.
    shown = [*(one.table for one in across), *with_joined(tables)]
    certain = [one.statistics for one in across]
    places = dict(enumerate([*certain, *joined_statistics(tables, statistics), *statistics]))
    board = Board(shown, places, found, scan, store, anonymous, loaded_rates)
    write_page(path, *make_document(board))
