"""How the classes of one row look on a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.leaderboard.formats.cells import half_width
from benchmarks.text_table import Column, text_table

if TYPE_CHECKING:
    from benchmarks.leaderboard.statistics.detections import ClassInterval

# A terminal shows as many classes at once.
_MOST_CLASSES = 30


def interval_lines(classes: "Sequence[ClassInterval]") -> list[str]:
    """Return APbox of classes with its 95 % interval, the best first.

    Args:
        classes: Of one row.
    """
    if not classes:
        return []
    ordered = sorted(classes, key=lambda own: -own.interval.value)
    rows = [
        {
            "name": own.name,
            "value": _text(own),
            "objects": f"{own.num_objects:,}",
        }
        for own in ordered[:_MOST_CLASSES]
    ]
    columns = [
        Column("name", "class"),
        Column("value", "APbox", numeric=True),
        Column("objects", "objects", numeric=True),
    ]
    more = len(ordered) - len(rows)
    tail = [f"({more} more with --json)"] if more else []
    return ["", *text_table(columns, rows), *tail]


def _text(own: "ClassInterval") -> str:
    half = half_width(own.interval)
    return f"{own.interval.value:.1f}" + (f" ±{half:.1f}" if half is not None else "")
