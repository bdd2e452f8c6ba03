"""Tables of text on a terminal of any width."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from benchmarks.output import clean

_GAP = "  "
# A file or a pipe has no width; this one shows every column without a line break.
_UNLIMITED = 10_000


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: Of the value in a row.
        header: Shown on top.
        numeric: Aligned right.
        priority: What is dropped first where the width does not suffice: the largest; 0 never.
    """

    key: str
    header: str
    numeric: bool = False
    priority: int = 0


def text_table(
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, str]],
    width: int | None = None,
    muted: Sequence[Mapping[str, str]] = (),
    muted_head: str = "",
) -> list[str]:
    """Return a table as lines no wider than the terminal.

    Columns with a priority are left out, last ones first, until the rest fits, and a last line
    names them; what still does not fit is cut at the right.

    Args:
        columns: What to show.
        rows: Texts by key; control characters in them are made harmless.
        width: In characters; None takes the terminal's, or no limit where there is none.
        muted: Rows below a line of their own, dim on a terminal.
        muted_head: What that line says.
    """
    limit = terminal_width() if width is None else width
    shown = list(columns)
    widths = {column.key: _width(column, [*rows, *muted]) for column in columns}
    hidden: list[str] = []
    while _total(shown, widths) > limit and any(column.priority for column in shown):
        dropped = max(shown, key=lambda column: column.priority)
        shown.remove(dropped)
        hidden.insert(0, dropped.header)
    lines = [_line(shown, {column.key: column.header for column in shown}, widths, limit)]
    lines.append("─" * min(limit, _total(shown, widths)))
    lines += [_line(shown, row, widths, limit) for row in rows]
    if muted:
        lines.append(_dim(_fitted(f"┄┄ {muted_head}", limit)))
        lines += [_dim(_line(shown, row, widths, limit)) for row in muted]
    if hidden:
        lines.append(f"(no room for: {', '.join(hidden)}; --format csv has them)")
    return lines


def terminal_width() -> int:
    """Return the terminal's width in characters, practically no limit where there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNLIMITED


def _width(column: Column, rows: Sequence[Mapping[str, str]]) -> int:
    texts = [column.header, *(clean(row.get(column.key, "")) for row in rows)]
    return max(cell_len(text) for text in texts)


def _total(columns: Sequence[Column], widths: Mapping[str, int]) -> int:
    return sum(widths[column.key] for column in columns) + len(_GAP) * (len(columns) - 1)


def _line(
    columns: Sequence[Column], row: Mapping[str, str], widths: Mapping[str, int], limit: int
) -> str:
    cells = []
    for column in columns:
        text = clean(row.get(column.key, ""))
        padding = " " * (widths[column.key] - cell_len(text))
        cells.append(padding + text if column.numeric else text + padding)
    return _fitted(_GAP.join(cells).rstrip(), limit)


def _fitted(line: str, limit: int) -> str:
    return line if cell_len(line) <= limit else set_cell_size(line, limit - 1) + "…"


def _dim(line: str) -> str:
    """Return a line that a terminal shows dimmed, as it is anywhere else."""
    return (
        f"\x1b[2m{line}\x1b[22m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else line
    )
