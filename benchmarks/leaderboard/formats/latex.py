"""Tables as LaTeX with rules of the package booktabs."""

import re
from collections.abc import Mapping, Sequence

from benchmarks.leaderboard.formats.cells import interval_of, legend, texts_of, title
from benchmarks.leaderboard.rows import Row, Table
from benchmarks.leaderboard.shown import ShownTable
from benchmarks.leaderboard.statistics.results import RowStatistics
from benchmarks.output import clean
from benchmarks.text_table import Column

_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "—": "--", "·": r"\textperiodcentered{}", "±": r"$\pm$", "†": r"$\dagger$",
    "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip

_INTERVAL = "Subscripts in brackets: the 95 % interval"
_MOST_METRICS = 2


def to_latex(tables: Sequence[ShownTable], caption: str = "", label: str = "") -> str:
    """Return all tables as LaTeX, intervals as subscripts, the best value of each metric in bold.

    Without chosen columns, a table has its entries, headline metrics, ties and seeds, which fit one
    column of a paper. Published rows stand below a rule, in italics.

    Args:
        tables: The tables.
        caption: LaTeX source; empty writes what the rows share and what the subscripts are.
        label: Name for references; empty makes one from task and protocol. Later tables get a
            number.
    """
    numbered = enumerate(tables, start=1)
    found = [_table(shown, caption, _label(shown, label, number)) for number, shown in numbered]
    return "\n\n".join([_NEEDS, *found]) + "\n"


_NEEDS = r"% The preamble needs \usepackage{booktabs,graphicx} and \usepackage[T1]{fontenc}."
# A table that is wider than the column shrinks to it; others keep their size.
_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def _label(shown: ShownTable, label: str, number: int) -> str:
    key = shown.table.key
    text = label or "tab:" + re.sub(r"[^A-Za-z0-9]+", "-", f"{key.task}-{key.protocol}")
    return f"{text}-{number}" if number > 1 else text


def _table(shown: ShownTable, caption: str, label: str) -> str:
    texts = texts_of(shown)
    columns = texts.columns if shown.columns else _usual(shown, texts.columns)
    rows = list(zip(shown.table.rows, shown.sure, texts.rows, strict=True))
    best = _best(shown.table)
    body = [
        " & ".join(_cell(column, row, sure, cells[column.key], best) for column in columns)
        for row, sure, cells in rows
    ]
    muted = [
        " & ".join(rf"\textit{{{_escaped(cells[column.key])}}}" for column in columns)
        for cells in texts.published
    ]
    notes = legend(shown, columns, _INTERVAL)
    interval = next((note for note in notes if note.startswith(_INTERVAL)), "")
    own = [title(shown.table), interval, "Bold: best" if best else ""]
    return "\n".join(
        [
            *(f"% {clean(text)}" for text in notes),
            r"\begin{table}[t]",
            r"\centering\small\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{caption or _escaped('. '.join(filter(None, own)) + '.')}}}",
            rf"\label{{{label}}}",
            _FITTED,
            rf"\begin{{tabular}}{{{''.join('r' if c.numeric else 'l' for c in columns)}}}",
            r"\toprule",
            rf"{' & '.join(_escaped(column.header) for column in columns)} \\",
            r"\midrule",
            *(rf"{cells} \\" for cells in body),
            *([r"\midrule", *(rf"{cells} \\" for cells in muted)] if muted else []),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    )


def _usual(shown: ShownTable, columns: Sequence[Column]) -> Sequence[Column]:
    """Return the columns of a table for which nobody chose any: they fit one column of a paper."""
    heads = shown.table.heads or shown.table.columns[:_MOST_METRICS]
    by_key = {column.key: column for column in columns}
    return [by_key[key] for key in ("entry", *heads, "ties", "seeds") if key in by_key]


def _best(table: Table) -> dict[str, float]:
    """Return the best mean of each metric, of those that several rows have."""
    found = {}
    for name in table.metrics:
        means = [row.values[name].mean for row in table.rows if name in row.values]
        known = [mean for mean in means if mean is not None]
        if len(known) > 1:
            found[name] = min(known) if name in table.lower else max(known)
    return found


def _cell(
    column: Column,
    row: Row,
    sure: RowStatistics | None,
    text: str,
    best: Mapping[str, float],
) -> str:
    value = row.values.get(column.key)
    if value is None or value.mean is None:
        return _escaped(text)
    interval = interval_of(sure, column.key)
    mean = f"{value.mean:.1f}" if interval is not None else _escaped(text)
    if value.mean == best.get(column.key):
        mean = rf"\textbf{{{mean}}}"
    if interval is None:
        return mean
    return rf"{mean}$_{{[{interval.low:.1f},\,{interval.high:.1f}]}}$"


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in clean(text))
