"""The page docs/protocols.md, written from the registries; run as a module, it prints it.

A test holds the page to what this writes, so that it cannot go stale.
"""

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from backbones.base.sections import as_plain
from backbones.base.wording import first_of
from benchmarks.leaderboard.published.figures import PublishedRow, published_rows
from benchmarks.leaderboard.published.protocols import FOREIGN, nearest
from benchmarks.overrides import leaves_of
from benchmarks.seed_floors import find_floor
from benchmarks.suites import get_measurement, measurement_names

_HEAD = """\
# Protocols

<!-- Written by `python -m benchmarks.leaderboard.protocol_page > docs/protocols.md`. -->

A protocol is a set of rules under which numbers may be compared. Its id stands in every record and
over every table; rows of different ids never share a table. What it fixes is every value of its
recipe and the version of its task: change one with `--set`, and the id bears `+custom:` and six
digits of what was changed. One value changes no result and is free: `evaluation.every_epochs`, how
often a detector is evaluated while it trains. Data are not part of it, but tables of different data
are different tables too. An id ends in a version; a rule that changes gets the next one, and old
records are then stale and said to be.

Below, a protocol lists the settings that differ from those which most recipes of its task share.
These stand first, as defaults.
Costs are those that its authors published or that follow from them; `run.py … --dry-run` tells
what it costs here. Published rows are those that `run.py leaderboard` shows below measured ones on
the same data, and that `run.py verify ROW` compares with; figures that could not be traced to
their source are left out. The seed floor is the standard deviation over trainings that differ only
in the seed: [docs/statistics.md](statistics.md).
"""
_FOREIGN_HEAD = """\
## Other people's rules

Published numbers under rules that no recipe here follows exactly. `run.py leaderboard --published`
shows them in tables of their own; `run.py verify` compares with the nearest protocol, where there
is one, and says what it does otherwise.
"""
_MOST_ROWS = 12


def page() -> str:
    """Return the whole page."""
    parts = [_HEAD]
    for name in measurement_names():
        parts.append("\n".join(_task(name)))
    parts.append("\n".join(_foreign()))
    return "\n".join(parts)


def _task(name: str) -> Iterator[str]:
    task = get_measurement(name)
    yield f"## {name} (version {task.version})\n"
    metrics = ", ".join(f"`{metric}`" for metric in task.columns)
    yield f"Ranked by `{task.headline}`; columns {metrics}.\n"
    recipes = [(recipe, make, make()) for recipe, make in task.recipes().items()]
    defaults = _defaults([_values(config) for _, _, config in recipes])
    if defaults:
        yield f"<details><summary>Defaults</summary>\n\n{_settings(defaults)}\n\n</details>\n"
    by_protocol: dict[str, list[tuple[str, Callable[[], Any], Any]]] = {}
    for recipe in recipes:
        by_protocol.setdefault(recipe[2].protocol, []).append(recipe)
    for protocol, group in by_protocol.items():
        yield from _protocol(name, protocol, group, defaults)


def _protocol(
    task: str,
    protocol: str,
    group: Sequence[tuple[str, Callable[[], Any], Any]],
    defaults: Mapping[str, Any],
) -> Iterator[str]:
    yield f"### `{protocol}`\n"
    names = ", ".join(f"`{name}`" for name, _, _ in group)
    yield f"Recipe{'s' if len(group) > 1 else ''} {names}.\n"
    abouts = dict.fromkeys(about for _, make, _ in group if (about := _about(make)))
    yield from (f"{about}\n" for about in abouts)
    first, *others = [_values(config) for _, _, config in group]
    own = {
        key: _text(value)
        for key, value in first.items()
        if defaults.get(key) != _text(value) and all(o.get(key) == value for o in others)
    }
    yield f"Fixes: {_settings(own)}\n" if own else "Fixes: the defaults.\n"
    yield from _floor(task, protocol)
    rows = [row for row in published_rows() if (row.task, row.protocol) == (task, protocol)]
    if rows:
        yield f"Published: {_published(rows)}\n"


def _floor(task: str, protocol: str) -> Iterator[str]:
    """Yield how far trainings of a protocol lie apart when only the seed differs."""
    work = get_measurement(task)
    floor = find_floor(work.seed_floors, protocol)
    if floor is not None:
        kind = "assumed" if floor.assumed else "measured"
        text = f"Seed floor: {floor.headline:g} `{work.headline}` ({kind}: {floor.source})"
        if work.headline in floor.fresh:
            source = floor.source_of(work.headline, fresh=True)
            text += f"; {floor.fresh[work.headline]:g} with fresh weights ({source})"
        yield f"{text}.\n"


def _about(make: Callable[[], Any]) -> str:
    """Return where a recipe comes from and what it costs, as its function says."""
    function = make.func if isinstance(make, partial) else make
    return _paragraphs(function.__doc__)


def _paragraphs(doc: str | None) -> str:
    text = inspect.cleandoc(doc or "").partition("\n\nArgs:")[0]
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    first, *rest = paragraphs
    first = first.removeprefix("Return ").replace("``", "`")
    return "\n\n".join([first[:1].upper() + first[1:], *(part.replace("``", "`") for part in rest)])


def _defaults(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the value of each setting that most recipes of a task share."""
    counts: dict[str, Counter[str]] = {}
    for config in configs:
        for key, value in config.items():
            counts.setdefault(key, Counter())[_text(value)] += 1
    return {
        key: texts.most_common(1)[0][0]
        for key, texts in counts.items()
        if 2 * texts.most_common(1)[0][1] > len(configs)
    }


def _text(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.replace("'", "") or "none"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}={value}`" for key, value in values.items())


def _values(config: Any) -> dict[str, Any]:
    return {k: value for k, value in leaves_of(as_plain(config)) if k != "protocol"}


def _published(rows: Sequence[PublishedRow]) -> str:
    texts = [
        f"{row.method} {row.backbone} "
        + " / ".join(f"{value:g}" for value in row.values.values())
        + f" ({row.source})"
        for row in rows
    ]
    return first_of(texts, _MOST_ROWS, "; ") + "."


def _foreign() -> Iterator[str]:
    yield _FOREIGN_HEAD
    yield "| published as | what it is | nearest here | rows |\n| --- | --- | --- | ---: |"
    found = [row for row in published_rows() if row.protocol.partition("+")[0] in FOREIGN]
    for protocol, rows in groupby(sorted(found, key=lambda r: r.protocol), lambda r: r.protocol):
        rules = FOREIGN[protocol.partition("+")[0]]
        near = nearest(protocol)
        other = f"`{near}`: {rules.differences}" if near else "—"
        yield f"| `{protocol}` | {rules.about} | {other} | {len(list(rows))} |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(page())
