"""Tables as LaTeX with booktabs rules."""

from collections.abc import Sequence

from benchmarks.leaderboard.formats.cells import interval_of, legend, texts_of, title
from benchmarks.leaderboard.rows import Row
from benchmarks.leaderboard.shown import ShownTable
from benchmarks.leaderboard.statistics.results import RowStatistics
from benchmarks.output import clean
from benchmarks.text_table import Column

_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "—": "--", "±": r"$\pm$", "†": r"$\dagger$", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip

_INTERVAL = "subscripts in brackets: the 95 % interval"


def to_latex(tables: Sequence[ShownTable]) -> str:
    """Return all tables as LaTeX, intervals as subscripts.

    Published rows stand below a rule, in italics.
    """
    return "\n\n".join(_table(shown) for shown in tables) + "\n"


def _table(shown: ShownTable) -> str:
    texts = texts_of(shown)
    columns = [c for c in texts.columns if c.key != "note" or c.key in shown.columns]
    rows = zip(shown.table.rows, shown.sure, texts.rows, strict=True)
    body = [
        " & ".join(_cell(column, row, sure, cells[column.key]) for column in columns)
        for row, sure, cells in rows
    ]
    muted = [
        " & ".join(rf"\textit{{{_escaped(cells[column.key])}}}" for column in columns)
        for cells in texts.published
    ]
    return "\n".join(
        [
            f"% {clean(title(shown.table))}",
            *(f"% {clean(text)}" for text in legend(shown, columns, _INTERVAL)),
            rf"\begin{{tabular}}{{{''.join('r' if c.numeric else 'l' for c in columns)}}}",
            r"\toprule",
            rf"{' & '.join(_escaped(column.header) for column in columns)} \\",
            r"\midrule",
            *(rf"{cells} \\" for cells in body),
            *([r"\midrule", *(rf"{cells} \\" for cells in muted)] if muted else []),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _cell(column: Column, row: Row, sure: RowStatistics | None, text: str) -> str:
    value = row.values.get(column.key)
    if value is None or value.mean is None:
        return _escaped(text)
    interval = interval_of(sure, column.key)
    if interval is not None:
        return rf"{value.mean:.1f}$_{{[{interval.low:.1f},\,{interval.high:.1f}]}}$"
    return _escaped(text)


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in clean(text))
