"""A run as the tables need it, with or without a result."""

from dataclasses import dataclass

import msgspec

from backbones.checkpoint import FRESH
from benchmarks.plan.rules import about, broken_rules
from benchmarks.store.folders import Scan, Store, run_state
from benchmarks.store.record import RunRecord
from benchmarks.store.spec import RunRequest, RunSpec
from benchmarks.task import PRETRAIN

_SHARED = frozenset(RunSpec.__struct_fields__) - {"seed"}


@dataclass(frozen=True)
class TableKey:
    """What rows must share to stand in one table and to be ranked.

    Attributes:
        task: Name of the task.
        task_version: Of the measurement; 0 for several tasks side by side.
        data: Name of the data.
        data_fingerprint: Of their content.
        mini: They are the embedded mini data.
        protocol: Id of the rules.
        limit_images: Images of each split in use; None means all.
    """

    task: str
    task_version: int
    data: str
    data_fingerprint: str
    mini: bool
    protocol: str
    limit_images: int | None


@dataclass(frozen=True)
class Run:
    """A run with or without a result, as rows need it."""

    key: TableKey
    identity: bytes
    entry: str
    backbone: str
    pretrain: str
    weights: str
    recipe: str
    seed: int
    run_id: str
    record: RunRecord | None
    note: str


def read_runs(scan: Scan, store: Store) -> list[Run]:
    """Return every run that tables show; pretraining is in none.

    Args:
        scan: What the folder holds.
        store: The folder, for the state of runs without a record.
    """
    newest = _rules_by_cell(scan)
    runs = [
        _of_record(record, newest.get(record.cell, frozenset()))
        for record in scan.records.values()
        if _is_shown(record.spec)
    ]
    waiting = [request for request in scan.unfinished.values() if _is_shown(request.spec)]
    return runs + [_of_request(request, store) for request in waiting]


def _is_shown(spec: RunSpec) -> bool:
    return spec.task != PRETRAIN


def _rules_by_cell(scan: Scan) -> dict[str, frozenset[str]]:
    """Return, by cell, every rule that some run of the cell is under."""
    runs: list[RunRecord | RunRequest] = [*scan.records.values(), *scan.unfinished.values()]
    found: dict[str, frozenset[str]] = {}
    for run in runs:
        if run.spec.rules:
            found[run.cell] = found.get(run.cell, frozenset()) | set(run.spec.rules)
    return found


def _of_record(record: RunRecord, rules: frozenset[str]) -> Run:
    """Return the run of a record; one from before a rule that applies to it has its own protocol.

    Args:
        record: The record.
        rules: That runs of its cell are under.
    """
    labels, spec = record.labels, record.spec
    broken = sorted({*broken_rules(record), *(rules - set(spec.rules))})
    protocol = "+".join([labels.protocol, *(f"before:{rule}" for rule in broken)])
    key = TableKey(
        task=spec.task,
        task_version=spec.task_version,
        data=labels.data,
        data_fingerprint=spec.data_fingerprint,
        mini=labels.mini,
        protocol=protocol,
        limit_images=spec.limit_images,
    )
    stale = [f"done before the rule {about(tuple(broken))}"] if broken else []
    note = f"failed: {record.failure.message}" if record.failure else "; ".join(record.warnings)
    return Run(
        key=key,
        identity=_identity(spec),
        entry=labels.entry,
        backbone=spec.backbone,
        pretrain=_pretrain(record),
        weights=_weights(spec),
        recipe=labels.recipe,
        seed=spec.seed,
        run_id=record.run_id,
        record=record if record.status == "done" else None,
        note="; ".join(filter(None, [*stale, note])),
    )


def _of_request(request: RunRequest, store: Store) -> Run:
    spec = request.spec
    state, note = run_state(store.folder(spec.run_id))
    words = {"missing": "not run", "running": "running", "interrupted": "interrupted"}
    key = TableKey(
        task=spec.task,
        task_version=spec.task_version,
        data=request.data.name,
        data_fingerprint=spec.data_fingerprint,
        mini=request.data.mini,
        protocol=request.protocol,
        limit_images=spec.limit_images,
    )
    return Run(
        key=key,
        identity=_identity(spec),
        entry=request.entry,
        backbone=spec.backbone,
        pretrain=FRESH if spec.weights_sha256 == FRESH else spec.weights_format,
        weights=_weights(spec),
        recipe=request.recipe,
        seed=spec.seed,
        run_id=spec.run_id,
        record=None,
        note=": ".join(filter(None, [words[state], note])),
    )


def _identity(spec: RunSpec) -> bytes:
    """Return what two runs share that differ in the seed alone."""
    values = {name: getattr(spec, name) for name in _SHARED}
    return msgspec.json.encode(values, order="sorted")


def _weights(spec: RunSpec) -> str:
    parts = (
        spec.weights_sha256, spec.weights_format, spec.weights_branch, spec.backbone_sha256,
    )  # fmt: skip
    return " ".join(filter(None, parts))


def _pretrain(record: RunRecord) -> str:
    backbone = record.backbone
    if record.spec.weights_sha256 == FRESH:
        return FRESH
    epochs = f"{backbone.epochs:g} ep" if backbone.epochs else ""
    parts = [backbone.method or backbone.format, backbone.branch, backbone.data, epochs]
    return " ".join(filter(None, parts))
