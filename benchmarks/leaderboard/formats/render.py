"""Tables for people: terminal and Markdown; and every format by name.

Names and notes come from files that others wrote; each format escapes them.
"""

from collections.abc import Callable, Sequence

from benchmarks.leaderboard.formats.cells import PUBLISHED, Texts, legend, texts_of, title
from benchmarks.leaderboard.formats.latex import to_latex
from benchmarks.leaderboard.formats.sheets import to_csv
from benchmarks.leaderboard.shown import ShownTable
from benchmarks.output import clean
from benchmarks.text_table import Column, text_table

# Columns that a terminal's table leaves out where all rows have one value, which is said below.
_OFTEN_SHARED = ("data", "recipe", "pretrain")


def to_terminal(tables: Sequence[ShownTable], width: int | None = None) -> list[str]:
    """Return all tables as lines for a terminal of ``width`` characters."""
    lines: list[str] = []
    for shown in tables:
        texts = texts_of(shown)
        columns, shared = _apart(texts)
        table = text_table(columns, texts.rows, width, texts.published, PUBLISHED, "--format csv")
        lines += ["", title(shown.table), *table]
        lines += [f"  {clean(text)}" for text in [*shared, *legend(shown, texts.columns)]]
    return lines


def _apart(texts: Texts) -> tuple[list[Column], list[str]]:
    """Return the columns in which rows differ, and a line on what all rows share."""
    rows = (*texts.rows, *texts.published)
    values = {column.key: {row[column.key] for row in rows} for column in texts.columns}
    same = [
        column
        for column in texts.columns
        if column.key in _OFTEN_SHARED and len(rows) > 1 and len(values[column.key]) == 1
    ]
    shared = [f"{column.header} {values[column.key].pop()}" for column in same]
    left = [column for column in texts.columns if column not in same]
    return left, [f"all rows: {', '.join(shared)}"] if shared else []


def to_markdown(tables: Sequence[ShownTable]) -> str:
    """Return all tables in GitHub's Markdown, published rows in italics."""
    return "\n\n".join(_markdown_table(shown) for shown in tables) + "\n"


def _markdown_table(shown: ShownTable) -> str:
    texts = texts_of(shown)
    head = [column.header for column in texts.columns]
    rule = ["---:" if column.numeric else "---" for column in texts.columns]
    body = [[_escaped(row[column.key]) for column in texts.columns] for row in texts.rows]
    muted = [
        [_italic(_escaped(row[column.key])) for column in texts.columns] for row in texts.published
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in [head, rule, *body, *muted]]
    notes = [*legend(shown, texts.columns), *([f"in italics: {PUBLISHED}"] if muted else [])]
    below = ["", *(f"{_escaped(text)}  " for text in notes)] if notes else []
    return "\n".join([f"**{_escaped(title(shown.table))}**", "", *lines, *below])


def _italic(text: str) -> str:
    return f"*{text}*" if text else ""


def _escaped(text: str) -> str:
    escaped = clean(text).replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`")
    return (
        escaped.replace("&", "&amp;").replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")
    )


Form = Callable[[Sequence[ShownTable]], str]

FORMATS: dict[str, Form] = {
    "table": lambda tables: "\n".join(to_terminal(tables)),
    "markdown": lambda tables: to_markdown(tables).rstrip("\n"),
    "csv": lambda tables: to_csv(tables).rstrip("\n"),
    "latex": lambda tables: to_latex(tables).rstrip("\n"),
}
