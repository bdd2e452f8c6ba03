"""``run.py list``: what there is to choose from."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import Any

from backbones.base.errors import UserError
from backbones.base.registry import did_you_mean
from backbones.base.wording import quoted
from backbones.catalog import list_specs
from backbones.weights.formats import FORMATS
from backbones.weights.layout import Format
from benchmarks import output
from benchmarks.entries import GROUPS
from benchmarks.options import ListOptions
from benchmarks.suites import all_suites, get_measurement, measurement_names
from benchmarks.text_table import Column, text_table

# Narrower columns stay where the terminal has no room for all of them.
_PRIORITIES = {
    "protocol": 1,
    "about": 2,
    "licence": 1,
    "mean": 2,
    "branches": 3,
    "positions": 4,
    "link": 5,
}
# Names between the marks of code, those of recipes as they are typed.
_CODE = re.compile("``(.+?)``")
_OVERVIEW_WIDTH = 80
_MOST_NAMES = 12


def main(options: ListOptions) -> int:
    """Run the command.

    Raises:
        UserError: The plug-in folder is wrong, or nothing contains the words.
    """
    content = _content(options.plugins)
    kinds = [word for word in options.what if word in content]
    words = [word.lower() for word in options.what if word not in content]
    found = _filtered({kind: content[kind] for kind in kinds or content}, words)
    if options.json:
        output.document(found)
    elif not options.what:
        for text in _overview(content):
            output.line(text)
    else:
        for kind, rows in found.items():
            _show(kind, rows)
    return 0


def _filtered(
    content: Mapping[str, list[dict[str, Any]]], words: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return the rows that contain all the words, of kinds that have such rows.

    Raises:
        UserError: Nothing contains them.
    """
    if not words:
        return dict(content)
    found = {kind: _containing(rows, words) for kind, rows in content.items()}
    found = {kind: rows for kind, rows in found.items() if rows}
    if not found:
        names = [_name(row) for rows in content.values() for row in rows]
        guess = did_you_mean(words[0], [*content, *names])
        raise UserError(
            f"None of the {', '.join(content)} contains {quoted(' '.join(words))}.{guess}"
        )
    return found


def _containing(rows: Sequence[dict[str, Any]], words: Sequence[str]) -> list[dict[str, Any]]:
    """Return the row that is called so, or else those that contain all the words."""
    named = [row for row in rows if list(words) == [_name(row).lower()]]
    return named or [row for row in rows if all(word in _searched(row) for word in words)]


def _name(row: Mapping[str, str]) -> str:
    return next(iter(row.values()))


def _searched(row: Mapping[str, str]) -> str:
    """Return what a word is looked for in: everything that the table shows."""
    return " ".join(value for key, value in row.items() if key != "text").lower()


def _show(kind: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Print the table of a kind; of a single recipe everything that is known."""
    columns = [
        Column(key, key, priority=_PRIORITIES.get(key, 0)) for key in rows[0] if key != "text"
    ]
    output.line(f"{kind}:")
    for text in text_table(columns, rows):
        output.line(f"  {text}")
    output.line()
    if len(rows) == 1 and rows[0].get("text"):
        output.line(output.clean_lines(rows[0]["text"]))
        output.line()


def _overview(content: Mapping[str, Sequence[Mapping[str, str]]]) -> Iterator[str]:
    """Yield what there is, on one screen."""
    tasks = Counter(row["task"] for row in content["recipes"])
    yield from _item("suites", [row["suite"] for row in content["suites"]])
    yield from _item("backbones", [row["backbone"] for row in content["backbones"]])
    yield from _item("recipes", [f"{task} ({number})" for task, number in tasks.items()])
    yield from _item("formats", [row["format"] for row in content["formats"]])
    yield from _item("groups", [f"{name} ({len(GROUPS[name])})" for name in GROUPS])
    yield ""
    yield from wrap(
        "Entries are backbones (fresh weights, or those of the package named), random:NAME for "
        "fresh ones always, timm:NAME for any network of timm with its pretrained weights, "
        "random:timm:NAME without, hf:OWNER/NAME, tv:NAME, ckpt:FILE?arch=NAME, recipes of the "
        "task pretrain, which are run first (RECIPE?arch=NAME&seed=N), and groups: "
        f"{'; '.join(map(_group, GROUPS))}.",
        _OVERVIEW_WIDTH,
        break_long_words=False,
        break_on_hyphens=False,
    )
    yield ""
    yield "run.py list recipes               all of a kind"
    yield "run.py list recipes mae           those that contain a word"
    yield "run.py list recipes vitdet-100ep  one, with its source, published scores and cost"


def _item(kind: str, names: Sequence[str]) -> list[str]:
    """Return the lines of a kind in the overview: how many there are, and the first names."""
    more = len(names) - _MOST_NAMES
    shown = ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
    return wrap(
        shown,
        _OVERVIEW_WIDTH,
        initial_indent=f"{kind:<9} {len(names):>4}  ",
        subsequent_indent=" " * 16,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _group(name: str) -> str:
    return f"{name} ({', '.join(GROUPS[name])})"


def _format(form: Format) -> dict[str, str]:
    mean = "/".join(f"{value:g}" for value in form.norm[0]) if form.norm else "the backbone's"
    return {
        "format": form.name,
        "method": form.method,
        "project": form.project,
        "mean": mean,
        "positions": form.positions.about,
        "branches": ", ".join(name for name, _ in form.branches),
        "licence": form.licence,
        "link": form.link,
    }


def _recipe(name: str, task: str, make: Callable[[], Any]) -> dict[str, str]:
    text = inspect.getdoc(make.func if isinstance(make, partial) else make) or ""
    about = text.partition("\n")[0].removeprefix("Return ")
    return {
        "recipe": name,
        "task": task,
        "protocol": make().protocol,
        "about": _CODE.sub(lambda found: found[1].replace("_", "-"), about),
        "text": text,
    }


def _content(plugins: Path | None) -> dict[str, list[dict[str, Any]]]:
    recipes = [
        _recipe(name, task, make)
        for task in measurement_names()
        for name, make in get_measurement(task).recipes().items()
    ]
    backbones = [
        {
            "backbone": spec.name,
            "layout": spec.layout,
            "layers": str(spec.num_layers),
            "weights": spec.weights.package if spec.weights else "fresh",
        }
        for spec in list_specs(plugins)
    ]
    suites = [
        {"suite": suite.name, "tasks": ", ".join(suite.tasks), "about": suite.about}
        for suite in all_suites().values()
    ]
    return {
        "suites": suites,
        "backbones": backbones,
        "recipes": recipes,
        "formats": [_format(form) for form in FORMATS.values()],
    }
