"""The leaderboard as a figure: each table's headline, an entry a line."""

import io
from collections.abc import Sequence
from typing import Any

from benchmarks.leaderboard.formats.cells import interval_of, title
from benchmarks.leaderboard.shown import ShownTable
from benchmarks.output import clean

# Of Wong 2011, "Points of view: Color blindness" (Nature Methods 8:441): blue, told apart by all.
_BLUE, _GREY = "#0072b2", "#767676"
_MOST_ROWS = 30
_INCHES_A_ROW, _INCHES_WIDE, _LONGEST_NAME = 0.26, 8.0, 40


def draw(tables: Sequence[ShownTable]) -> bytes | None:
    """Return an SVG picture of the best rows of each table, None where no row has a result.

    The same tables give the same bytes.

    Args:
        tables: What to show; those of several tasks at once are left to their own tables.
    """
    panels = [s for s in tables if any(row.rank is not None for row in s.table.rows)]
    if not panels:
        return None
    # It takes half a second to import, and hardly any command draws.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    counts = [min(_MOST_ROWS, len(shown.table.rows)) for shown in panels]
    with mpl.rc_context({"svg.hashsalt": "leaderboard", "svg.fonttype": "none", "font.size": 9}):
        height = sum(counts) * _INCHES_A_ROW + len(panels)
        figure = Figure(figsize=(_INCHES_WIDE, height), layout="constrained")
        axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[c + 2 for c in counts])
        for axis, shown in zip(axes[:, 0], panels, strict=True):
            _panel(axis, shown)
        buffer = io.BytesIO()
        # Without a date, so that nothing changes where nothing changed.
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _panel(plot: Any, shown: ShownTable) -> None:
    table = shown.table
    pairs = [
        (row, sure)
        for row, sure in zip(table.rows, shown.sure, strict=True)
        if row.values.get(table.headline) and row.values[table.headline].mean is not None
    ][:_MOST_ROWS]
    names = [clean(row.entry)[:_LONGEST_NAME].replace("$", r"\$") for row, _ in pairs]
    for place, (row, sure) in enumerate(pairs):
        mean = row.values[table.headline].mean
        interval = interval_of(sure, table.headline)
        if interval is not None:
            plot.plot([interval.low, interval.high], [place, place], color=_GREY, linewidth=2)
        plot.plot([mean], [place], "o", color=_BLUE)
    _labels(plot, shown, names)


def _labels(plot: Any, shown: ShownTable, names: Sequence[str]) -> None:
    table = shown.table
    unit = table.units.get(table.headline, "")
    known = [interval_of(sure, table.headline) for sure in shown.sure]
    over = "95 % interval" if any(known) else "no interval known"
    for name, value in (
        ("yticks", range(len(names))),
        ("yticklabels", names),
        ("xlabel", f"{table.headline} ({unit}), {over}"),
    ):
        getattr(plot, f"set_{name}")(value)
    head = title(table).replace("$", r"\$").split(" · ")
    plot.set_title(
        " · ".join([*head[:2], "mini data" if table.key.mini else table.key.data]),
        loc="left",
        fontsize=9,
    )
    # The best on top, and room for whole markers.
    plot.set_ylim(len(names) - 0.5, -0.5)
    plot.grid(axis="x", alpha=0.3)
    plot.spines[["top", "right"]].set_visible(False)
