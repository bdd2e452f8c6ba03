"""Does a measured row lie where others published it, and if not, what differs?"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backbones.base.sections import as_plain
from backbones.catalog import TIMM
from benchmarks.leaderboard.published.facts import differences_of
from benchmarks.leaderboard.published.figures import PublishedRow
from benchmarks.leaderboard.published.pretraining import pretraining_data
from benchmarks.leaderboard.published.protocols import foreign, nearest
from benchmarks.leaderboard.rows import Row, Table
from benchmarks.overrides import base_protocol, leaves_of
from benchmarks.store.record import RunRecord
from benchmarks.suites import get_measurement

# timm's names of the networks that others published under their own.
_TIMM = {
    "vit_small_patch16": "vit-s16", "vit_small_patch8": "vit-s8", "vit_base_patch16": "vit-b16",
    "vit_base_patch8": "vit-b8", "vit_large_patch16": "vit-l16", "vit_huge_patch14": "vit-h14",
    "swin_tiny_patch4_window7": "swin-t", "swin_small_patch4_window7": "swin-s",
    "swin_base_patch4_window7": "swin-b", "swin_large_patch4_window7": "swin-l",
    "resnet50": "resnet50", "resnet101": "resnet101",
}  # fmt: skip
# Methods that timm names in the network, not in the tag.
_BY_NETWORK = {"vit_pe_": "pe", "eva02_": "eva-02"}
_SAME_NETWORK = {"lomar-vit-b16": "vit-b16", "beit-b16": "vit-b16"}
# Methods that our records do not tell apart.
_FAMILIES = {"esvit": ("esvit", "esvit-views"), "swin": ("supervised",)}
_FROM_LABELS = "supervised"


@dataclass(frozen=True)
class Finding:
    """A metric of a measured row beside the published figures.

    Attributes:
        metric: Its name.
        measured: Mean over seeds; None where there is none.
        published: All figures.
        low: Lower end of the band: the least figure less the tolerance.
        high: Upper end.
    """

    metric: str
    measured: float | None
    published: tuple[float, ...]
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """Tell whether the measured number lies in the band."""
        return self.measured is not None and self.low <= self.measured <= self.high


@dataclass(frozen=True)
class SettingDifference:
    """A setting that is not the published row's."""

    setting: str
    here: str
    published: str


@dataclass(frozen=True)
class Verdict:
    """What comparing a measured row with published ones found.

    Attributes:
        entry: Of the measured row.
        protocol: Likewise.
        seeds: Likewise.
        rows: The published ones.
        findings: A metric each.
        differences: Settings that differ, field by field.
        note: What the recipe cannot express; may be empty.
    """

    entry: str
    protocol: str
    seeds: int
    rows: tuple[PublishedRow, ...]
    findings: tuple[Finding, ...]
    differences: tuple[SettingDifference, ...]
    note: str

    @property
    def inside(self) -> bool:
        """Tell whether every published metric was met."""
        return all(finding.inside for finding in self.findings)


def counterparts(
    table: Table, record: RunRecord, published: Sequence[PublishedRow]
) -> tuple[PublishedRow, ...]:
    """Return the published rows of the same method and network that a row is held against.

    Only those whose detector has the same facts. Those of its own protocol; where there are none,
    those whose rules come nearest to it; else those of the task. Among them, those pretrained on
    the same data, and of these those of as long a pretraining, if there are any.

    Args:
        table: Of the row.
        record: One of its runs.
        published: To choose from.
    """
    rows = _of_kind(table, record, published)
    ours = base_protocol(table.key.protocol)
    same = [row for row in rows if row.protocol == ours]
    near = [row for row in rows if nearest(row.protocol) == ours]
    found = [row for row in same or near or rows if not differences_of(row, record)]
    data = _pretrained_on(record)
    found = [row for row in found if row.data and data.startswith(row.data)] or found
    long = [row for row in found if record.backbone.epochs and row.epochs == record.backbone.epochs]
    return tuple(long or found)


def apart(
    table: Table, record: RunRecord, published: Sequence[PublishedRow]
) -> list[tuple[PublishedRow, dict[str, tuple[str, str]]]]:
    """Return the published rows of a row's method and network whose detectors have other facts.

    Args:
        table: Of the row.
        record: One of its runs.
        published: To choose from.

    Returns:
        Each with the facts that differ, as ``facts.differences_of`` has them; those of the row's
        own protocol first.
    """
    ours = base_protocol(table.key.protocol)
    kind = sorted(_of_kind(table, record, published), key=lambda row: row.protocol != ours)
    found = [(row, differences_of(row, record)) for row in kind]
    return [(row, facts) for row, facts in found if facts]


def compare(
    table: Table, row: Row, record: RunRecord, published: Sequence[PublishedRow]
) -> Verdict:
    """Hold a measured row against published ones.

    Args:
        table: Of the row.
        row: The row.
        record: One of its runs.
        published: At least one, from ``counterparts``.
    """
    # One source's rules and one pretraining's data at a time: the band of several would be wide
    # enough for anything.
    first = published[0]
    alike = (first.protocol, first.data)
    rows = tuple(other for other in published if (other.protocol, other.data) == alike)
    kept = get_measurement(table.key.task).published
    assert kept is not None, "figures of a task that declares none"
    tolerance = kept.tolerance
    findings = []
    for metric in dict.fromkeys(name for other in rows for name in other.values):
        figures = tuple(other.values[metric] for other in rows if metric in other.values)
        value = row.values.get(metric)
        band = min(figures) - tolerance, max(figures) + tolerance
        findings.append(Finding(metric, value.mean if value else None, figures, *band))
    rules = foreign(first.protocol)
    return Verdict(
        entry=row.entry,
        protocol=table.key.protocol,
        seeds=len(row.seeds),
        rows=rows,
        findings=tuple(findings),
        differences=tuple(_differences(table, record, first)),
        note=f"{rules.about}; its {rules.differences or 'rules are no recipe of ours'}"
        if rules
        else "",
    )


def _of_kind(
    table: Table, record: RunRecord, published: Sequence[PublishedRow]
) -> list[PublishedRow]:
    """Return the published rows of the same task, method and network."""
    family, arch = _families(record, published), architecture(record.spec.backbone)
    return [
        row for row in published
        if row.task == table.key.task and row.family in family and row.arch == arch
    ]  # fmt: skip


def architecture(backbone: str) -> str:
    """Return our name of a network, whoever builds it; the name itself where there is no other."""
    name = backbone.removeprefix(TIMM).partition(".")[0]
    # An image size may follow; any other word, such as "clip", makes it another network.
    for stem, ours in _TIMM.items():
        if re.fullmatch(rf"{stem}(_\d+)?", name):
            return ours
    return f"{TIMM}{name}" if backbone.startswith(TIMM) else _SAME_NETWORK.get(backbone, backbone)


def _families(record: RunRecord, published: Sequence[PublishedRow]) -> tuple[str, ...]:
    facts = record.backbone
    method = facts.method or facts.format
    if facts.format == "timm":
        tag = _tag(record)
        known = {row.family for row in published}
        method = next((name for name in sorted(known) if tag.startswith(name)), _FROM_LABELS)
        network = record.spec.backbone.removeprefix(TIMM)
        method = next((_BY_NETWORK[n] for n in _BY_NETWORK if network.startswith(n)), method)
    return _FAMILIES.get(method, (method,))


def _pretrained_on(record: RunRecord) -> str:
    return pretraining_data(record.backbone, _tag(record))


def _tag(record: RunRecord) -> str:
    """Return the tag of timm's weights, empty for others."""
    if record.backbone.format != "timm":
        return ""
    name = record.spec.backbone.partition(".")[2] or record.labels.entry.partition(".")[2]
    return name or record.backbone.data


def _differences(table: Table, record: RunRecord, row: PublishedRow) -> Iterator[SettingDifference]:
    protocol = nearest(row.protocol)
    if row.protocol != table.key.protocol:
        yield SettingDifference("protocol", table.key.protocol, row.protocol)
    yield from _of_pretraining(record, row)
    if table.key.limit_images is not None:
        yield SettingDifference("images of each split", str(table.key.limit_images), "all")
    published = get_measurement(row.task).published
    same_rules = row.protocol == base_protocol(table.key.protocol)
    if row not in table.published and same_rules and published is not None:
        yield SettingDifference("data", table.key.data, published.data)
    theirs = _recipe(row.task, protocol)
    if theirs is None:
        return
    here, there = dict(leaves_of(record.spec.recipe)), dict(leaves_of(theirs))
    for name in [*there, *(name for name in here if name not in there)]:
        if name not in ("protocol", "model.attention") and here.get(name) != there.get(name):
            yield SettingDifference(name, _text(here, name), _text(there, name))


def _of_pretraining(record: RunRecord, row: PublishedRow) -> Iterator[SettingDifference]:
    data, epochs = _pretrained_on(record), record.backbone.epochs
    if data and row.data and data != row.data:
        yield SettingDifference("pretraining data", data, row.data)
    if row.epochs and epochs and row.epochs != epochs:
        yield SettingDifference("pretraining epochs", f"{epochs:g}", f"{row.epochs:g}")


def _recipe(task: str, protocol: str) -> dict[str, Any] | None:
    """Return the recipe with a protocol as records keep it, None where nobody wrote it."""
    work = get_measurement(task)
    for make in work.recipes().values():
        config = make()
        if config.protocol == protocol:
            return as_plain(work.check(config))
    return None


def _text(values: Mapping[str, Any], name: str) -> str:
    return str(values[name]) if name in values else "no such setting"
