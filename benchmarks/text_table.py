"""Tables of text on a terminal of any width."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import TextIO

from rich.cells import cell_len, set_cell_size

from benchmarks.output import clean

_GAP = "  "
_INDENT = "    "
# A file or a pipe has no width; this one shows every column without a line break.
_UNLIMITED = 10_000
# A terminal that does not tell its width.
_USUAL = 80


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: Of the value in a row.
        header: Shown on top.
        numeric: Aligned right.
        priority: What is dropped first where the width does not suffice: the largest, and all of
            one number together; 0 never.
        short: Key of a shorter text that a table without room takes first; empty for none.
        below: A table without room shows the text on lines of its own below the row.
    """

    key: str
    header: str
    numeric: bool = False
    priority: int = 0
    short: str = ""
    below: bool = False


def text_table(
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, str]],
    width: int | None = None,
    muted: Sequence[Mapping[str, str]] = (),
    muted_head: str = "",
    whole: str = "--json",
) -> list[str]:
    """Return a table as lines no wider than the terminal.

    Where there is no room, long texts move below their rows, others are shortened, and then columns
    with a priority are left out, last ones first, until the rest fits; a last line names them. What
    still does not fit is cut at the right.

    Args:
        columns: What to show.
        rows: Texts by key; control characters in them are made harmless.
        width: In characters; None takes the terminal's, or no limit where there is none.
        muted: Rows below a line of their own, dim on a terminal.
        muted_head: What that line says.
        whole: The flag that shows columns which are left out.
    """
    limit = terminal_width() if width is None else width
    layout = _layout(columns, [*rows, *muted], limit)
    lines = [_line(layout, {column.key: column.header for column in layout.shown}, limit)]
    lines.append("─" * min(limit, _total(layout)))
    for row in rows:
        lines += [_line(layout, row, limit), *_lines_below(layout, row, limit)]
    if muted:
        lines.append(_dim(_fitted(f"┄┄ {muted_head}", limit)))
        for row in muted:
            lines += map(_dim, [_line(layout, row, limit), *_lines_below(layout, row, limit)])
    if layout.hidden:
        names = ", ".join(column.header for column in columns if column in layout.hidden)
        lines.append(f"(no room for: {names}; {whole} has them)")
    return lines


@dataclass(frozen=True)
class _Layout:
    """Where the columns of a table are.

    Attributes:
        shown: In the lines of the table, in order.
        widths: Their widths, by key.
        below: On lines of their own.
        hidden: Nowhere.
    """

    shown: Sequence[Column]
    widths: Mapping[str, int]
    below: Sequence[Column] = ()
    hidden: Sequence[Column] = ()


def _layout(columns: Sequence[Column], rows: Sequence[Mapping[str, str]], limit: int) -> _Layout:
    """Return the first layout that fits, or the narrowest there is."""

    def laid(shown: Sequence[Column]) -> _Layout:
        return _Layout(shown, {column.key: _width(column, rows) for column in shown})

    layout = laid(columns)
    if _total(layout) <= limit:
        return layout
    below = [column for column in columns if column.below]
    layout = laid([column for column in columns if not column.below])
    if _total(layout) > limit:
        shorter = [replace(own, key=own.short) if own.short else own for own in layout.shown]
        layout = laid(shorter)
    hidden: list[Column] = []
    while _total(layout) > limit and (least := max(own.priority for own in layout.shown)):
        hidden += [column for column in columns if column.priority == least and not column.below]
        layout = laid([column for column in layout.shown if column.priority != least])
    return replace(layout, below=below, hidden=hidden)


def _lines_below(layout: _Layout, row: Mapping[str, str], limit: int) -> list[str]:
    texts = [clean(row.get(column.key, "")) for column in layout.below]
    return [
        line
        for text in filter(None, texts)
        for line in wrap(text, limit, initial_indent=_INDENT, subsequent_indent=_INDENT)
    ]


def terminal_width(stream: TextIO | None = None) -> int:
    """Return a terminal's width in characters, practically no limit where there is none.

    Args:
        stream: What is written to; None takes standard output.
    """
    stream = stream or sys.stdout
    if not stream.isatty():
        return _UNLIMITED
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL
    except OSError:
        return _USUAL


def _width(column: Column, rows: Sequence[Mapping[str, str]]) -> int:
    texts = [column.header, *(clean(row.get(column.key, "")) for row in rows)]
    return max(cell_len(text) for text in texts)


def _total(layout: _Layout) -> int:
    return sum(layout.widths.values()) + len(_GAP) * (len(layout.shown) - 1)


def _line(layout: _Layout, row: Mapping[str, str], limit: int) -> str:
    cells = []
    for column in layout.shown:
        text = clean(row.get(column.key, ""))
        padding = " " * (layout.widths[column.key] - cell_len(text))
        cells.append(padding + text if column.numeric else text + padding)
    return _fitted(_GAP.join(cells).rstrip(), limit)


def _fitted(line: str, limit: int) -> str:
    return line if cell_len(line) <= limit else set_cell_size(line, limit - 1) + "…"


def _dim(line: str) -> str:
    """Return a line that a terminal shows dimmed, as it is anywhere else."""
    return (
        f"\x1b[2m{line}\x1b[22m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else line
    )
