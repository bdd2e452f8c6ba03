"""The traced figures of papers and projects.

``figures.csv`` has a line a figure: whose it is, under which rules it was measured, and where it is
printed. Figures that nobody could trace to their source are not in it; neither are those that were
read off a plot, nor speeds, whose hardware is hardly ever said.
"""

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.suites import get_task

FIGURES = Path(__file__).with_name("figures.csv")


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


@cache
def published_rows() -> tuple[PublishedRow, ...]:
    """Return every published row, in the order of the file."""
    with FIGURES.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    groups: dict[str, list[dict[str, str]]] = {}
    for line in lines:
        groups.setdefault(line["row"], []).append(line)
    return tuple(_row(group) for group in groups.values())


def rows_of(
    task: str, protocol: str, data: str, classes: Collection[str]
) -> tuple[PublishedRow, ...]:
    """Return the published rows that belong under a measured table of real data.

    Args:
        task: Of the table.
        protocol: Likewise.
        data: Name of its data, for results that say nothing of classes.
        classes: Names of the data's classes; may be empty.
    """
    rows = tuple(r for r in published_rows() if (r.task, r.protocol) == (task, protocol))
    published = get_task(task).published if rows else None
    return rows if published is not None and published.is_data(data, classes) else ()


def _row(lines: list[dict[str, str]]) -> PublishedRow:
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
    )
