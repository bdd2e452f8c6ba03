"""Tables as terminal text, Markdown, CSV, LaTeX and JSON. Imports no torch.

Names and notes come from files that others wrote; each format escapes them.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.leaderboard.layout import Column, text_table
from benchmarks.leaderboard.rows import COSTS, Row, Table
from benchmarks.output import clean

MINI_MARK = "mini"
_NOT_A_RESULT = "embedded mini data: for trying out, not comparable with any published number"
# A dash, never a zero: nothing was measured.
_MISSING = "—"
_COST_HEADERS = {
    "parameters_millions": ("params M", 1),
    "gflops": ("GFLOPs", 1),
    "images_per_second_train": ("train img/s", 1),
    "images_per_second_test": ("test img/s", 1),
    "peak_memory_gib": ("memory GiB", 2),
    "seconds": ("seconds", 0),
}


def columns_of(table: Table) -> list[Column]:
    """Return the columns of a table; the priority says what a narrow terminal drops first."""
    metrics = [
        Column(name, name, numeric=True, priority=0 if rank < 2 else 20 + rank)
        for rank, name in enumerate(table.columns)
    ]
    costs = [
        Column(key, _COST_HEADERS[key][0], numeric=True, priority=10 + rank)
        for rank, key in enumerate(COSTS)
    ]
    return [
        Column("rank", "#", numeric=True),
        Column("entry", "entry"),
        *metrics,
        *costs,
        Column("seeds", "seeds", numeric=True, priority=5),
        Column("pretrain", "pretrain", priority=4),
        Column("data", "data", priority=3),
        Column("recipe", "recipe", priority=6),
        Column("backbone", "backbone", priority=50),
        Column("note", "note"),
    ]


def to_terminal(tables: Sequence[Table], width: int | None = None) -> list[str]:
    """Return all tables as lines for a terminal of ``width`` characters."""
    lines: list[str] = []
    for table in tables:
        columns = [column for column in columns_of(table) if _has_content(table, column)]
        lines += ["", title(table), *text_table(columns, _texts(table), width)]
    return lines


def to_markdown(tables: Sequence[Table]) -> str:
    """Return all tables in GitHub's Markdown."""
    parts = []
    for table in tables:
        columns = [column for column in columns_of(table) if _has_content(table, column)]
        head = [column.header for column in columns]
        rule = ["---:" if column.numeric else "---" for column in columns]
        body = [[_markdown(row[column.key]) for column in columns] for row in _texts(table)]
        lines = [f"| {' | '.join(cells)} |" for cells in [head, rule, *body]]
        parts.append("\n".join([f"**{_markdown(title(table))}**", "", *lines]))
    return "\n\n".join(parts) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """Return all rows as one CSV at full precision; the leading columns tell tables apart.

    A row is one of one task; joined tables say nothing more, and are left out.
    """
    tables = [table for table in tables if not table.joined]
    metrics = list(dict.fromkeys(name for table in tables for name in table.metrics))
    shared = ("task", "task_version", "protocol", "data", "data_fingerprint", "limit_images")
    own = ("rank", "entry", "backbone", "pretrain", "recipe")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    spreads = [f"{name}_spread" for name in metrics]
    writer.writerow([*shared, *own, *metrics, *spreads, *COSTS, "seeds", "note", "run_ids"])
    for table in tables:
        key = asdict(table.key)
        for row in table.rows:
            values = [row.values.get(name) for name in metrics]
            cells = [
                *(key[name] for name in shared),
                *(getattr(row, name) for name in own),
                *(value.mean if value else None for value in values),
                *(value.spread if value else None for value in values),
                *(row.costs[name] for name in COSTS),
                " ".join(map(str, row.seeds)),
                row.note,
                " ".join(row.run_ids),
            ]
            writer.writerow([_csv(cell) for cell in cells])
    return buffer.getvalue()


def to_latex(tables: Sequence[Table]) -> str:
    """Return all tables as LaTeX with booktabs rules, seed spreads as subscripts."""
    parts = []
    for table in tables:
        columns = [c for c in columns_of(table) if c.key != "note" and _has_content(table, c)]
        shape = "".join("r" if column.numeric else "l" for column in columns)
        head = " & ".join(_latex(column.header) for column in columns)
        body = [
            " & ".join(_latex_cell(table, row, column, texts) for column in columns)
            for row, texts in zip(table.rows, _texts(table), strict=True)
        ]
        lines = [
            f"% {clean(title(table))}",
            rf"\begin{{tabular}}{{{shape}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *(rf"{cells} \\" for cells in body),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def to_json(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """Return all tables as plain JSON values."""
    return [asdict(table) for table in tables]


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


def _data(table: Table) -> str:
    return MINI_MARK if table.key.mini else table.key.data


def _texts(table: Table) -> list[dict[str, str]]:
    return [_row_texts(table, row) for row in table.rows]


def _row_texts(table: Table, row: Row) -> dict[str, str]:
    return {
        "rank": str(row.rank) if row.rank is not None else _MISSING,
        "entry": row.entry,
        "backbone": row.backbone,
        "pretrain": row.pretrain,
        "recipe": row.recipe,
        "data": _data(table),
        "seeds": str(len(row.seeds)),
        "note": row.note,
        **{name: _number(row, name) for name in table.metrics},
        **{key: _fixed(row.costs[key], _COST_HEADERS[key][1]) for key in COSTS},
    }


def _number(row: Row, metric: str) -> str:
    value = row.values[metric]
    if value.mean is None:
        return _MISSING
    spread = f" ±{value.spread:.1f}" if value.spread is not None else ""
    return f"{value.mean:.1f}{spread}"


def _fixed(value: float | None, decimals: int) -> str:
    return _MISSING if value is None else f"{value:.{decimals}f}"


def _has_content(table: Table, column: Column) -> bool:
    """Tell whether a column says anything; boxes-only data have no mask numbers, for one."""
    if column.key == table.headline or column.key == "entry":
        return True
    if column.key == "rank":
        return not table.joined
    return any(texts[column.key] not in ("", _MISSING) for texts in _texts(table))


def _markdown(text: str) -> str:
    escaped = clean(text).replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`")
    return escaped.replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")


def _csv(cell: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    if not isinstance(cell, str):
        return cell
    text = clean(cell)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "—": "--", "±": r"$\pm$",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in clean(text))


def _latex_cell(table: Table, row: Row, column: Column, texts: dict[str, str]) -> str:
    value = row.values.get(column.key) if column.key in table.metrics else None
    if value is None or value.mean is None or value.spread is None:
        return _latex(texts[column.key])
    return rf"{value.mean:.1f}$_{{\pm {value.spread:.1f}}}$"


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "table": lambda tables: "\n".join(to_terminal(tables)),
    "markdown": lambda tables: to_markdown(tables).rstrip("\n"),
    "csv": lambda tables: to_csv(tables).rstrip("\n"),
    "latex": lambda tables: to_latex(tables).rstrip("\n"),
}
