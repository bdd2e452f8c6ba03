"""Does ImageNet predict COCO? Rank correlations over entries that both have measured."""

from collections.abc import Mapping, Sequence

from benchmarks.leaderboard.rows import Table
from benchmarks.leaderboard.statistics.results import Prediction, TableStatistics

LEAST_POINTS = 4


def predictions(
    tables: Sequence[Table], statistics: Mapping[int, TableStatistics]
) -> list[Prediction]:
    """Return how well each ImageNet headline predicts APbox.

    Args:
        tables: From ``leaderboard.rows.make_tables``.
        statistics: Of the tables, by their position.
    """
    raise NotImplementedError
