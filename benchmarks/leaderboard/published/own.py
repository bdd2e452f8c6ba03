"""A lab's own published rows: a CSV file, checked line by line before any of it is used."""

import csv
import math
from collections.abc import Collection, Mapping, Sequence
from io import StringIO
from pathlib import Path

from backbones.base.errors import PreflightError, UserError
from backbones.base.registry import did_you_mean
from backbones.catalog import TIMM, zoo
from benchmarks.leaderboard.published.figures import (
    COLUMNS,
    OPTIONAL,
    PublishedRow,
    facts_of_text,
    grouped,
    published_rows,
)
from benchmarks.suites import get_task, task_names

_FILLED = ("row", "family", "method", "backbone", "task", "protocol", "metric", "value", "source")
# What all lines of a row have in common; the rest belongs to a single figure.
_SHARED = tuple(name for name in (*COLUMNS, *OPTIONAL) if name not in ("metric", "value", "source"))


def with_own(path: Path | None) -> tuple[PublishedRow, ...]:
    """Return the project's published rows, and after them those of a file.

    Args:
        path: CSV with the columns of ``figures.csv``; None for no file.

    Raises:
        PreflightError: The file cannot be read.
        UserError: A line of it is wrong; names the line, the value and what is allowed.
    """
    rows = published_rows()
    return rows if path is None else (*rows, *read_own(path, {row.row for row in rows}))


def read_own(path: Path, taken: Collection[str]) -> tuple[PublishedRow, ...]:
    """Return the rows of a lab's file.

    Args:
        path: CSV in UTF-8.
        taken: Ids of rows that exist already.

    Raises:
        PreflightError: The file cannot be read.
        UserError: A line of it is wrong.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise PreflightError(f"--published {path}: {why}; name a CSV file.") from error
    reader = csv.DictReader(StringIO(text, newline=""), strict=True)
    try:
        lines = list(reader)
    except csv.Error as error:
        raise UserError(f"--published {path}: not a CSV file ({error}).") from error
    _check_header(path, reader.fieldnames or ())
    if not lines:
        raise UserError(f"--published {path}: no line below the header; write one per figure.")
    firsts: dict[str, Mapping[str, str]] = {}
    metrics: set[tuple[str, str]] = set()
    for number, line in enumerate(lines, start=2):
        wrong = _fault(line, firsts, metrics, taken)
        if wrong:
            raise UserError(f"--published {path}, figure {number - 1}: {wrong}")
        firsts.setdefault(line["row"], line)
        metrics.add((line["row"], line["metric"]))
    return grouped(lines)


def _check_header(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in names]
    unknown = [name for name in names if name not in (*COLUMNS, *OPTIONAL)]
    if not missing and not unknown:
        return
    what = f"column {missing[0]!r} is missing" if missing else f"unknown column {unknown[0]!r}"
    raise UserError(
        f"--published {path}: {what}; the header is {','.join(COLUMNS)}, and {OPTIONAL[0]} may "
        "follow."
    )


def _fault(
    line: Mapping[str, str],
    firsts: Mapping[str, Mapping[str, str]],
    metrics: Collection[tuple[str, str]],
    taken: Collection[str],
) -> str:
    """Return what is wrong with a line, in one sentence; empty for nothing.

    Args:
        line: By column.
        firsts: First line of each row above it.
        metrics: Row and metric of each line above it.
        taken: Ids of rows that exist already.
    """
    if None in line or None in line.values():
        return "the line has another number of cells than the header; quote cells with commas."
    if empty := next((name for name in _FILLED if not line[name].strip()), ""):
        return f"{empty} is empty; fill it."
    if line["row"] in taken:
        return f"row {line['row']!r} is the id of one of the project's rows; use another id."
    if (line["row"], line["metric"]) in metrics:
        return f"row {line['row']!r} has {line['metric']} twice; keep one figure."
    first = firsts.get(line["row"], line)
    if other := next((n for n in _SHARED if line.get(n, "") != first.get(n, "")), ""):
        return (
            f"{other}: {line.get(other)!r} here, {first.get(other)!r} in the first line of row "
            f"{line['row']!r}; one row has one {other}."
        )
    return _fault_of_value(line) or _fault_of_name(line)


def _fault_of_value(line: Mapping[str, str]) -> str:
    if not 0 < _number(line["value"]) < 100:
        return f"value: {line['value']!r} is not a number between 0 and 100 (percent)."
    if not 0 < _number(line["pretrain_epochs"] or "1") < math.inf:
        return f"pretrain_epochs: {line['pretrain_epochs']!r} must be a positive number or empty."
    if line["img_size"] and not line["img_size"].isdecimal():
        return f"img_size: {line['img_size']!r} must be a number of pixels or empty."
    try:
        facts_of_text(line.get(OPTIONAL[0]) or "")
    except ValueError:
        return f"facts: {line[OPTIONAL[0]]!r} must be NAME=VALUE, several separated by |."
    return ""


def _number(text: str) -> float:
    """Return the number that a text stands for, NaN where it stands for none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _fault_of_name(line: Mapping[str, str]) -> str:
    published = [name for name in task_names() if get_task(name).published is not None]
    if line["task"] not in published:
        guess = did_you_mean(line["task"], published)
        return f"task: {line['task']!r} is not one of {', '.join(published)}.{guess}"
    task = get_task(line["task"])
    if line["metric"] not in task.metrics:
        guess = did_you_mean(line["metric"], list(task.metrics))
        return f"metric: {line['metric']!r} is not a metric of {task.name}.{guess}"
    arch = line["arch"]
    if arch and not arch.startswith(TIMM) and arch not in zoo():
        guess = did_you_mean(arch, zoo())
        return f"arch: {arch!r} must be a network of `run.py list`, timm:NAME or empty.{guess}"
    ours = [make().protocol for make in task.recipes().values()]
    if "/" in line["protocol"] and line["protocol"] not in ours:
        guess = did_you_mean(line["protocol"], ours)
        return (
            f"protocol: {line['protocol']!r} is not a protocol of {task.name}; rules of your own "
            f"have a name without a slash.{guess}"
        )
    return ""
