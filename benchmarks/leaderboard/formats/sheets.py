"""Tables for programs: CSV and JSON at full precision."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.leaderboard.formats.cells import ONE_SEED, interval_of
from benchmarks.leaderboard.published.figures import PublishedRow
from benchmarks.leaderboard.rows import COSTS, Row
from benchmarks.leaderboard.shown import ShownTable
from benchmarks.leaderboard.statistics.results import RowStatistics
from benchmarks.output import clean

_SHARED = ("task", "task_version", "protocol", "data", "data_fingerprint", "limit_images")
_OWN = ("rank", "entry", "backbone", "pretrain", "recipe")


def to_csv(tables: Sequence[ShownTable]) -> str:
    """Return all rows as one CSV at full precision; the leading columns tell tables apart.

    A row is one of one task; joined tables say nothing more, and are left out. Published rows say
    so in the column "kind". "NAME_low" and "NAME_high" are the ends of the 95 % interval,
    "NAME_spread" is the sample standard deviation over seeds. "seeds" counts the trainings,
    "seed_list" names their seeds. "interval_over" says what the intervals are over, and of one
    training "1 seed". "costs_in_doubt" names the costs that must not be compared, each with the
    reason: "loaded" or "unknown".
    """
    tables = [shown for shown in tables if not shown.table.joined]
    metrics = list(dict.fromkeys(name for shown in tables for name in _metrics(shown)))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    numbers = [f"{name}{suffix}" for suffix in ("", "_spread", "_low", "_high") for name in metrics]
    head = [
        *_SHARED,
        "kind",
        *_OWN,
        "rank_best",
        "rank_worst",
        *numbers,
        *COSTS,
        "seeds",
        "seed_list",
    ]
    head += ["costs_in_doubt", "interval_over", "note"]
    writer.writerow([*head, "run_ids"])
    for shown in tables:
        key = asdict(shown.table.key)
        shared = [key[name] for name in _SHARED]
        for row, sure in zip(shown.table.rows, shown.sure, strict=True):
            writer.writerow([_safe(cell) for cell in [*shared, *_measured(row, sure, metrics)]])
        for published in shown.table.published:
            writer.writerow([_safe(cell) for cell in [*shared, *_published(published, metrics)]])
    return buffer.getvalue()


def to_json(tables: Sequence[ShownTable]) -> list[dict[str, Any]]:
    """Return all tables as plain JSON values."""
    return [_table(shown) for shown in tables]


def _metrics(shown: ShownTable) -> Sequence[str]:
    known = shown.table.metrics
    return [name for name in shown.columns if name in known] if shown.columns else known


def _measured(row: Row, sure: RowStatistics | None, metrics: Sequence[str]) -> Iterator[object]:
    values = [row.values.get(name) for name in metrics]
    intervals = [interval_of(sure, name) for name in metrics]
    yield "measured"
    yield from (getattr(row, name) for name in _OWN)
    yield from sure.rank if sure and sure.rank else (row.rank, row.rank)
    yield from (value.mean if value else None for value in values)
    yield from (value.spread if value else None for value in values)
    yield from (interval.low if interval else None for interval in intervals)
    yield from (interval.high if interval else None for interval in intervals)
    yield from (row.costs[name] for name in COSTS)
    yield len(row.seeds)
    yield " ".join(map(str, row.seeds))
    yield "; ".join(f"{name}: {doubt}" for name, doubt in row.doubts.items())
    yield _over(sure)
    yield row.note
    yield " ".join(row.run_ids)


def _over(sure: RowStatistics | None) -> str:
    """Return what a row's intervals are over; empty without one."""
    found = (
        [interval for interval in sure.intervals.values() if interval.low is not None]
        if sure
        else []
    )
    mark = [ONE_SEED] if sure and sure.one_seed else []
    if not found:
        return "; ".join(mark)
    images = ["test images"] if any(i.images_error is not None for i in found) else []
    floor = " (seed floor)" if mark else ""
    return "; ".join([*mark, " and ".join([*images, f"training again{floor}"])])


def _published(row: PublishedRow, metrics: Sequence[str]) -> list[object]:
    nothing = [None] * (3 * len(metrics) + len(COSTS))
    values = [row.values.get(name) for name in metrics]
    own = [None, row.method, row.backbone, row.pretrain, "", None, None]
    return [
        "published",
        *own,
        *values,
        *nothing,
        "",
        "",
        "",
        "",
        f"{row.source}: {row.setting}",
        row.row,
    ]


def _table(shown: ShownTable) -> dict[str, Any]:
    statistics = shown.statistics
    sure = [
        {"intervals": {n: asdict(i) for n, i in s.intervals.items()}, "rank": s.rank,
         "brackets": s.brackets, "one_seed": s.one_seed, "note": s.note} if s else None
        for s in shown.sure
    ]  # fmt: skip
    about = None
    if statistics is not None:
        about = {
            "rows": sure,
            "noise": {name: asdict(noise) for name, noise in statistics.noise.items()},
            "num_images": statistics.num_images,
            "num_resamples": statistics.num_resamples,
        }
    return {**asdict(shown.table), "shown_columns": shown.columns, "statistics": about}


def _safe(cell: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    if not isinstance(cell, str):
        return cell
    text = clean(cell)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
