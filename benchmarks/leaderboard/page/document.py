"""Tables as the JSON document of a page.

Numbers keep three decimals: finer than any interval, and a third of the bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from backbones.checkpoint import FRESH
from benchmarks.leaderboard.page.costs import HEADERS, doubts_of, paid_hours, pretraining_hours
from benchmarks.leaderboard.page.gallery import galleries
from benchmarks.leaderboard.page.runs import run_details
from benchmarks.leaderboard.page.uncertainty import prediction, statistics_of
from benchmarks.leaderboard.published.figures import PublishedRow
from benchmarks.leaderboard.rows import COSTS, Row, Table, Value
from benchmarks.leaderboard.statistics.results import Prediction, TableStatistics
from benchmarks.leaderboard.statistics.table import done_runs
from benchmarks.store.environment import version
from benchmarks.store.folders import Scan, Store
from benchmarks.store.record import FullRecord, RunRecord
from benchmarks.store.timing import DOUBTS

MAX_ROWS = 300


@dataclass(frozen=True)
class Board:
    """All that a page shows.

    Attributes:
        tables: With the joined ones, in the order of the page.
        statistics: Of tables, by their position; joined ones have none.
        predictions: How well ImageNet's numbers predict COCO's.
        scan: What the folder of runs holds.
        store: The folder.
        anonymous: Nothing is taken from the folder that could tell whose it is and where it lies.
        loaded_rates: Speeds that were measured while other work used the machine are compared too.
    """

    tables: Sequence[Table]
    statistics: Mapping[int, TableStatistics]
    predictions: Sequence[Prediction]
    scan: Scan
    store: Store
    anonymous: bool = False
    loaded_rates: bool = False


def make_document(board: Board) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a page shows at once, and what it shows of runs when somebody asks.

    Of each table the best ``MAX_ROWS`` rows are in it.
    """
    records = board.scan.records
    tables = [_shortened(table) for table in board.tables]
    document = {
        "generated": datetime.now(UTC).isoformat(timespec="minutes"),
        "version": version("backbench"),
        "num_runs": len(records) + len(board.scan.unfinished),
        "costs": [list(header) for header in HEADERS],
        "doubts": dict(DOUBTS),
        "loaded_rates": board.loaded_rates,
        "tables": [
            _table(position, table, board, left_out=len(board.tables[position].rows))
            for position, table in enumerate(tables)
        ],
        "predictions": [prediction(found) for found in board.predictions],
        "rejected": [[str(path), reason] for path, reason in board.scan.rejected],
    }
    details = {
        **run_details(_runs_of(tables, records), board.scan, board.store, board.anonymous),
        "classes": {str(i): _classes(t, board) for i, t in enumerate(tables) if not t.joined},
        "galleries": galleries(tables, board.scan, board.store),
    }
    return document, details


def _shortened(table: Table) -> Table:
    return replace(table, rows=table.rows[:MAX_ROWS])


def _table(position: int, table: Table, board: Board, left_out: int) -> dict[str, Any]:
    key = table.key
    statistics = board.statistics.get(position)
    return {
        "task": key.task,
        "version": key.task_version,
        "protocol": key.protocol,
        "data": key.data,
        "fingerprint": key.data_fingerprint,
        "mini": key.mini,
        "limit": key.limit_images,
        "joined": table.joined,
        "headline": table.headline,
        "columns": list(table.columns),
        "metrics": [_metric(name, table, board.scan.records) for name in table.metrics],
        "rows": [
            *(_row(table, row, board) for row in table.rows),
            *(_published(table, found) for found in table.published),
        ],
        "left_out": left_out - len(table.rows),
        "statistics": statistics_of(table, statistics) if statistics else None,
    }


def _metric(name: str, table: Table, records: Mapping[str, RunRecord]) -> list[Any]:
    """Return a metric's name, unit and direction, None where it has no direction of its own."""
    for row in table.rows:
        for record in done_runs(row, records):
            if name in record.metrics:
                facts = record.metrics[name]
                return [name, facts.unit, facts.higher_is_better]
    return [name, table.units.get(name, ""), None]


def _row(table: Table, row: Row, board: Board) -> dict[str, Any]:
    records = done_runs(row, board.scan.records)
    return {
        "rank": row.rank,
        "entry": row.entry,
        "backbone": row.backbone,
        "method": _method(row, records),
        "pretrain": row.pretrain,
        "weights": row.weights,
        "recipe": row.recipe,
        "values": [_value(row.values[name]) for name in table.metrics],
        "seed_values": {name: _by_seed(records, name) for name in table.columns}
        if not table.joined
        else {},
        "costs": [
            *(rounded(row.costs.get(key)) for key in COSTS),
            rounded(paid_hours(records)),
            rounded(pretraining_hours(row, board.scan.records)),
        ],
        "doubts": doubts_of(row, board.scan.records),
        "seeds": list(row.seeds),
        "note": row.note,
        "runs": list(row.run_ids),
        "published": None,
    }


def _published(table: Table, found: PublishedRow) -> dict[str, Any]:
    """Return a row of what others printed, in the form of ``_row``; it has no rank and no runs."""
    return {
        "rank": None,
        "entry": f"{found.method} {found.backbone}",
        "backbone": found.arch or found.backbone,
        "method": found.family,
        "pretrain": found.pretrain,
        "weights": "",
        "recipe": "",
        "values": [
            [found.values[name], None] if name in found.values else "not published"
            for name in table.metrics
        ],
        "seed_values": {},
        "costs": [None] * len(HEADERS),
        "doubts": {},
        "seeds": [],
        "note": found.source,
        "runs": [],
        "published": {
            "id": found.row,
            "source": found.source,
            "rules": found.setting,
            "pretraining": found.pretrain,
        },
    }


def _method(row: Row, records: Sequence[RunRecord]) -> str:
    if row.weights.startswith(FRESH):
        return FRESH
    backbone = records[0].backbone if records else None
    return (backbone.method or backbone.format) if backbone else row.pretrain


def _value(value: Value) -> list[float | None] | str:
    """Return mean and spread, or the reason why there is no mean."""
    if value.mean is None:
        return value.reason
    return [rounded(value.mean), rounded(value.spread)]


def _by_seed(records: Sequence[RunRecord], name: str) -> list[list[float | None]]:
    return [[record.spec.seed, rounded(record.value(name))] for record in records]


def _runs_of(tables: Iterable[Table], records: Mapping[str, RunRecord]) -> list[str]:
    """Return the runs behind all rows, and those that made their weights."""
    shown = dict.fromkeys(
        run_id for table in tables for row in table.rows for run_id in row.run_ids
    )
    makers = [records[run_id].spec.weights_sha256 for run_id in shown if run_id in records]
    shown.update(dict.fromkeys(text.removeprefix("pretrain:") for text in makers if ":" in text))
    return list(shown)


def _classes(table: Table, board: Board) -> dict[str, Any]:
    """Return the mean over seeds of each class's headline, by row."""
    records, store = board.scan.records, board.store
    columns = [_row_classes(table, map(store.full, done_runs(row, records))) for row in table.rows]
    names = sorted({name for column in columns for name in column})
    return {
        "names": names,
        "values": [[rounded(column.get(name), 1) for name in names] for column in columns],
    }


def _row_classes(table: Table, records: Iterable[FullRecord]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for record in records:
        for name, scores in record.per_class.items():
            value = scores.get(table.headline)
            if value is not None:
                found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def rounded(value: float | None, decimals: int = 3) -> float | None:
    """Return a number with so many decimals, None as it is."""
    return None if value is None else round(value, decimals)
