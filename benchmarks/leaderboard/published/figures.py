"""The traced figures of papers and projects.

``figures.csv`` has a line a figure: whose it is, under which rules it was measured, and where it is
printed. Figures that nobody could trace to their source are not in it; neither are those that were
read off a plot, nor speeds, whose hardware is hardly ever said.
"""

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from benchmarks.suites import get_measurement

FIGURES = Path(__file__).with_name("figures.csv")
# Of the file, in this order; a lab's own file may have the optional ones too.
COLUMNS = (
    "row", "family", "method", "backbone", "arch", "pretrain_data", "pretrain_epochs", "img_size",
    "task", "protocol", "metric", "value", "setting", "source",
)  # fmt: skip
OPTIONAL = ("facts",)


@dataclass(frozen=True)
class PublishedRow:
    """Figures of one source, under one protocol.

    Attributes:
        row: Id, for ``run.py verify``.
        family: The method as our records call it, such as "mae".
        method: As its authors write it.
        backbone: Likewise.
        arch: Name of our backbone; empty where there is none.
        pretrain: Data and epochs of the pretraining, as far as they are known.
        data: The data alone; "none" for fresh weights, empty where the source does not say.
        epochs: Of the pretraining; None where the source does not say.
        task: Name of our task.
        protocol: Id of the rules: one of our own, or a name that ``protocols`` explains.
        values: Metric by name, as our records call it.
        setting: The rules in the source's words.
        source: Paper and table, or project and file.
        facts: What the source says of the detector, by name as in ``leaderboard.facts``.
    """

    row: str
    family: str
    method: str
    backbone: str
    arch: str
    pretrain: str
    data: str
    epochs: float | None
    task: str
    protocol: str
    values: Mapping[str, float]
    setting: str
    source: str
    facts: Mapping[str, str] = field(default_factory=dict)


@cache
def published_rows() -> tuple[PublishedRow, ...]:
    """Return every published row, in the order of the file."""
    with FIGURES.open(newline="", encoding="utf-8") as file:
        return grouped(list(csv.DictReader(file)))


def grouped(lines: Sequence[Mapping[str, str]]) -> tuple[PublishedRow, ...]:
    """Return the rows of a file that has one line per figure.

    Args:
        lines: By column, checked.
    """
    groups: dict[str, list[Mapping[str, str]]] = {}
    for line in lines:
        groups.setdefault(line["row"], []).append(line)
    return tuple(_row(group) for group in groups.values())


def facts_of_text(text: str) -> dict[str, str]:
    """Return facts by name of ``NAME=VALUE | NAME=VALUE``.

    Raises:
        ValueError: A part is not of this form.
    """
    parts = [part.partition("=") for part in text.split("|") if text.strip()]
    if not all(name.strip() and equals and value.strip() for name, equals, value in parts):
        raise ValueError(text)
    return {name.strip(): value.strip() for name, _, value in parts}


def rows_of(
    task: str,
    protocol: str,
    data: str,
    classes: Collection[str],
    among: Sequence[PublishedRow] | None = None,
) -> tuple[PublishedRow, ...]:
    """Return the published rows that belong under a measured table of real data.

    Args:
        task: Of the table.
        protocol: Likewise.
        data: Name of its data, for results that say nothing of classes.
        classes: Names of the data's classes; may be empty.
        among: Rows to choose from; None for the project's.
    """
    known = published_rows() if among is None else among
    rows = tuple(r for r in known if (r.task, r.protocol) == (task, protocol))
    published = get_measurement(task).published if rows else None
    return rows if published is not None and published.is_data(data, classes) else ()


def _row(lines: Sequence[Mapping[str, str]]) -> PublishedRow:
    first = lines[0]
    epochs = float(first["pretrain_epochs"]) if first["pretrain_epochs"] else None
    size = f"{first['img_size']} px" if first["img_size"] else ""
    parts = [first["pretrain_data"], f"{epochs:g} ep" if epochs else ""]
    return PublishedRow(
        row=first["row"],
        family=first["family"],
        method=first["method"],
        backbone=first["backbone"],
        arch=first["arch"],
        pretrain=" ".join(filter(None, parts)),
        data=first["pretrain_data"],
        epochs=epochs,
        task=first["task"],
        protocol=first["protocol"],
        values={line["metric"]: float(line["value"]) for line in lines},
        setting="; ".join(filter(None, [first["setting"], size])),
        source=first["source"],
        facts=facts_of_text(first.get(OPTIONAL[0]) or ""),
    )
