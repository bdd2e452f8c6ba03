"""The texts of a table's cells, the same in every format."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.leaderboard.published.figures import PublishedRow
from benchmarks.leaderboard.rows import COSTS, Row, Table
from benchmarks.leaderboard.shown import ShownTable
from benchmarks.leaderboard.statistics.results import (
    MOST_NAMED,
    Interval,
    RowStatistics,
    about_floors,
)
from benchmarks.output import clean
from benchmarks.store.timing import DOUBTS, Doubt
from benchmarks.suites import image_file_of
from benchmarks.text_table import Column

MINI_MARK = "mini"
_NOT_A_RESULT = "embedded mini data: for trying out, not comparable with any published number"
# In place of the number of seeds, in every format.
ONE_SEED = "1 seed"
# A dash, never a zero: nothing was measured.
MISSING = "—"
PUBLISHED = "published, measured by others and ranked with nothing"
# At costs that must not be compared, by reason.
DOUBT_MARKS: Mapping[Doubt, str] = {"loaded": "†", "unknown": "?"}
# Rows that cannot be told apart share a letter.
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Texts:
    """A table as texts.

    Attributes:
        columns: Those to show.
        rows: Texts by column, of measured rows.
        published: Of published ones.
    """

    columns: tuple[Column, ...]
    rows: tuple[dict[str, str], ...]
    published: tuple[dict[str, str], ...]


def texts_of(shown: ShownTable) -> Texts:
    """Return a table as texts; columns that say nothing are left out unless they were chosen."""
    table = shown.table
    rows = tuple(_row(shown, row, sure) for row, sure in zip(table.rows, shown.sure, strict=True))
    published = tuple(_published(table, row) for row in table.published)
    columns = _columns(table)
    if shown.columns:
        by_key = {column.key: column for column in columns}
        there = [by_key[key] for key in shown.columns if key in by_key]
        return Texts(tuple(there), rows, published)
    said = [c for c in columns if _says_something(table, c, (*rows, *published))]
    return Texts(tuple(said), rows, published)


def _columns(table: Table) -> list[Column]:
    """Return the columns of a table; the priority says what a narrow terminal drops first."""
    named = dict.fromkeys([*table.columns, *table.metrics])
    heads = table.heads or table.columns[:1]
    metrics = [
        Column(name, name, numeric=True, priority=0 if name in heads else _priority(place))
        for place, name in enumerate(named)
    ]
    costs = [
        Column(key, cost.header, numeric=True, priority=10 + place)
        for place, (key, cost) in enumerate(COSTS.items())
    ]
    return [
        Column("rank", "#", numeric=True),
        Column("ties", "ties", priority=2),
        Column("entry", "entry"),
        *metrics,
        *costs,
        # What a number of one training is worth must not fall off a narrow terminal.
        Column("seeds", "seeds", numeric=True),
        Column("pretrain", "pretrain", priority=4),
        Column("data", "data", priority=3),
        Column("recipe", "recipe", priority=6),
        Column("backbone", "backbone", priority=50),
        Column("note", "note", below=True),
        *(Column(key, key) for key in ("task", "protocol", "mini")),
    ]


def _priority(place: int) -> int:
    """Return when a metric leaves a narrow terminal: the second one last, after ties."""
    return 1 if place == 1 else 20 + place


def _says_something(table: Table, column: Column, rows: tuple[dict[str, str], ...]) -> bool:
    """Tell whether a column is worth its room; boxes-only data have no mask numbers, for one."""
    if column.key in (table.headline, "entry"):
        return True
    # What the title says already, and numbers for which somebody has to ask.
    if column.key in ("task", "protocol", "mini") or column.key in set(table.metrics) - set(
        table.columns
    ):
        return False
    if column.key == "rank":
        return not table.joined
    return any(texts[column.key] not in ("", MISSING) for texts in rows)


def title(table: Table) -> str:
    """Return what the rows of a table share, one line."""
    key = table.key
    if table.joined:
        parts = [key.task, key.protocol]
    else:
        parts = [f"{key.task} v{key.task_version}", f"protocol {key.protocol}"]
        parts.append(f"data {_data(table)} ({key.data_fingerprint[:12]})")
    if key.limit_images is not None:
        parts.append(f"limited to {key.limit_images} images: for trying out only")
    if key.mini:
        parts.append(_NOT_A_RESULT)
    return " · ".join(clean(part) for part in parts)


def legend(
    shown: ShownTable, columns: Sequence[Column], interval: str = "± half of the 95 % interval"
) -> list[str]:
    """Return what a reader must know of the numbers in view, a sentence each; may be none.

    Args:
        shown: The table.
        columns: In view.
        interval: What stands beside numbers.
    """
    there = {column.key for column in columns}
    metrics = [name for name in shown.table.metrics if name in there]
    return [
        *_about_chance(shown, there, metrics, interval),
        *about_doubts(shown.table.rows, there),
        *_about_missing(shown.table, metrics),
    ]


def _about_chance(
    shown: ShownTable, there: Collection[str], metrics: Sequence[str], interval: str
) -> list[str]:
    statistics = shown.statistics
    if statistics is None:
        several = metrics and any(row.seeds for row in shown.table.rows)
        return (
            ["no intervals: they are computed for tables of at most 1,000 rows"] if several else []
        )
    noise = [(name, statistics.noise.get(name)) for name in metrics]
    floors = [(name, own.floor) for name, own in noise if own and own.floor is not None]
    lines = []
    found = [i for sure in shown.sure for name in metrics if (i := interval_of(sure, name))]
    if found:
        count = f"{statistics.num_images:,} " if statistics.num_images else ""
        with_images = any(interval.images_error is not None for interval in found)
        images = [f"{count}test images"] if with_images else []
        lines.append(f"{interval} over {' and '.join([*images, 'training again'])}")
    named = [f"{name} {floor:.1f}" for name, floor in floors if name in shown.table.columns]
    if named:
        lines.append(f"standard deviation from training to training: {', '.join(named)}")
    if "ties" in there and any(sure and sure.brackets for sure in shown.sure):
        lines.append(f"rows that share a letter cannot be told apart by {shown.table.headline}")
    rows = [(r.entry, sure) for r, sure in zip(shown.table.rows, shown.sure, strict=True) if sure]
    lines += about_floors(rows, shown.table.headline, shown.table.key.protocol)
    return [*lines, *statistics.floors, *_about_intervals(shown)]


def _about_intervals(shown: ShownTable) -> list[str]:
    """Return which rows with a result have no interval, by reason; none where no row can."""
    if image_file_of(shown.table.key.task) is None:
        return []
    rows: dict[str, list[str]] = {}
    for row, sure in zip(shown.table.rows, shown.sure, strict=True):
        if sure is not None and sure.note:
            rows.setdefault(sure.note, []).append(row.entry)
    return [f"{clean(_first(entries))}: {clean(note)}" for note, entries in rows.items()]


def _first(entries: Sequence[str]) -> str:
    more = len(entries) - MOST_NAMED
    return ", ".join(entries[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _about_missing(table: Table, metrics: Sequence[str]) -> list[str]:
    """Return why numbers are missing, as far as no row's note says it."""
    reasons: dict[str, dict[str, None]] = {}
    for row in table.rows:
        for name in metrics:
            value = row.values[name]
            if value.mean is None and value.reason and value.reason not in row.note:
                reasons.setdefault(value.reason, {})[name] = None
    return [f"{MISSING} {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def interval_of(sure: RowStatistics | None, metric: str) -> Interval | None:
    """Return the interval of a metric, None where nothing is known about chance."""
    found = sure.intervals.get(metric) if sure else None
    return found if found is not None and found.low is not None else None


def half_width(interval: Interval) -> float | None:
    """Return half of an interval's width, None where it has no ends."""
    if interval.low is None or interval.high is None:
        return None
    return (interval.high - interval.low) / 2


def _data(table: Table) -> str:
    return MINI_MARK if table.key.mini else table.key.data


def _row(shown: ShownTable, row: Row, sure: RowStatistics | None) -> dict[str, str]:
    table = shown.table
    return {
        "rank": rank_text(row, sure),
        "ties": " ".join(_LETTERS[i % len(_LETTERS)] for i in sure.brackets) if sure else "",
        "entry": row.entry,
        "backbone": row.backbone,
        "pretrain": row.pretrain,
        "recipe": row.recipe,
        "data": _data(table),
        "seeds": ONE_SEED if len(row.seeds) == 1 else str(len(row.seeds)),
        "note": row.note,
        "task": table.key.task,
        "protocol": table.key.protocol,
        "mini": "yes" if table.key.mini else "no",
        **{name: _number(row, sure, name) for name in table.metrics},
        **{key: cost_text(row, key) for key in COSTS},
    }


def rank_text(row: Row, sure: RowStatistics | None) -> str:
    """Return a rank, or the ranks that cannot be excluded."""
    if row.rank is None:
        return MISSING
    best, worst = sure.rank if sure and sure.rank else (row.rank, row.rank)
    return str(row.rank) if best == worst else f"{best}-{worst}"


def _published(table: Table, row: PublishedRow) -> dict[str, str]:
    nothing = dict.fromkeys([*table.metrics, *COSTS, "rank"], MISSING)
    return {
        **nothing,
        **{name: f"{value:.1f}" for name, value in row.values.items()},
        "ties": "",
        "entry": row.method,
        "backbone": row.backbone,
        "pretrain": row.pretrain,
        "recipe": "",
        "data": _data(table),
        "seeds": "",
        "note": f"published: {row.source}",
        "task": table.key.task,
        "protocol": table.key.protocol,
        "mini": "no",
    }


def _number(row: Row, sure: RowStatistics | None, metric: str) -> str:
    value = row.values[metric]
    if value.mean is None:
        return MISSING
    interval = interval_of(sure, metric)
    half = half_width(interval) if interval else None
    return f"{value.mean:.1f}" + (f" ±{half:.1f}" if half is not None else "")


def cost_text(row: Row, key: str) -> str:
    """Return a cost, with a mark where it must not be compared.

    Args:
        row: The row.
        key: Of ``rows.COSTS``.
    """
    value, doubt = row.costs[key], row.doubts.get(key)
    mark = f" {DOUBT_MARKS[doubt]}" if doubt else ""
    return MISSING if value is None else f"{value:.{COSTS[key].decimals}f}{mark}"


def about_doubts(rows: Sequence[Row], costs: Collection[str]) -> list[str]:
    """Return what the marks at costs mean, a sentence each; empty without marks.

    Args:
        rows: In view.
        costs: Keys of ``rows.COSTS`` in view.
    """
    found = []
    for doubt, mark in DOUBT_MARKS.items():
        there = [key for key in COSTS if key in costs]
        marked = [k for k in there if any(row.doubts.get(k) == doubt for row in rows)]
        if marked:
            named = ", ".join(COSTS[key].header for key in marked)
            found.append(f"{mark} {named}: {DOUBTS[doubt]}, so rows cannot be compared by it")
    return found
