"""Records to tables of comparable rows; a pure function of what a folder holds. No torch."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import mean, stdev

from backbones.checkpoint import FRESH
from benchmarks.sweep.plan import run_state
from benchmarks.sweep.record import RunRecord
from benchmarks.sweep.spec import RunRequest, RunSpec, hash16
from benchmarks.sweep.store import Scan, Store
from benchmarks.task import PRETRAIN

# Of a record's cost, what a row shows, by its key there.
COSTS = (
    "parameters_millions",
    "gflops",
    "images_per_second_train",
    "images_per_second_test",
    "peak_memory_gib",
    "seconds",
)


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
class Value:
    """A metric over the seeds of a row.

    Attributes:
        mean: Over seeds, None where no seed has a value.
        spread: Sample standard deviation over seeds, None for fewer than two.
        reason: Why there is no mean.
    """

    mean: float | None
    spread: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """An entry's results under one protocol.

    Attributes:
        rank: By the headline; None without one.
        entry: The entry, as typed.
        backbone: Name of the network.
        pretrain: What made its weights.
        weights: What identifies them: checksum (or "random"), format, branch.
        recipe: Name of the recipe.
        values: By metric.
        costs: By key of ``COSTS``, mean over seeds.
        seeds: Seeds with a result.
        note: Why results are missing, or what else to know; may be empty.
        run_ids: Of all runs in the row.
    """

    rank: int | None
    entry: str
    backbone: str
    pretrain: str
    weights: str
    recipe: str
    values: Mapping[str, Value]
    costs: Mapping[str, float | None]
    seeds: tuple[int, ...]
    note: str
    run_ids: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows that may be compared.

    Attributes:
        key: What they share.
        headline: The metric that ranks; empty while no row has a result.
        columns: Metrics to show, most important first.
        metrics: Metrics of any row.
        units: Unit by metric.
        rows: Best first, then those without a result.
    """

    key: TableKey
    headline: str
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    units: Mapping[str, str]
    rows: tuple[Row, ...]

    @property
    def joined(self) -> bool:
        """Tell whether this shows several tasks side by side, see ``leaderboard.joined``."""
        return self.key.task_version == 0


@dataclass(frozen=True)
class _Run:
    """A run with or without a result, as rows need it."""

    key: TableKey
    identity: str
    entry: str
    backbone: str
    pretrain: str
    weights: str
    recipe: str
    seed: int
    run_id: str
    record: RunRecord | None
    note: str


def make_tables(scan: Scan, store: Store) -> list[Table]:
    """Return the tables that a folder of runs comes to; pretraining is in none.

    Args:
        scan: What the folder holds.
        store: The folder, for the state of runs without a record.
    """
    runs = [_of_record(record) for record in scan.records.values()]
    runs += [_of_request(request, store) for request in scan.unfinished.values()]
    by_table: dict[TableKey, list[_Run]] = defaultdict(list)
    for run in runs:
        if run.key.task != PRETRAIN:
            by_table[run.key].append(run)
    order = sorted(by_table, key=lambda key: (key.mini, str(asdict(key))))
    return [_table(key, by_table[key]) for key in order]


def _of_record(record: RunRecord) -> _Run:
    labels, spec = record.labels, record.spec
    key = TableKey(
        task=spec.task,
        task_version=spec.task_version,
        data=labels.data,
        data_fingerprint=spec.data_fingerprint,
        mini=labels.mini,
        protocol=labels.protocol,
        limit_images=spec.limit_images,
    )
    note = f"failed: {record.failure.message}" if record.failure else "; ".join(record.warnings)
    return _Run(
        key=key,
        identity=_identity(asdict(spec)),
        entry=labels.entry,
        backbone=spec.backbone,
        pretrain=_pretrain(record),
        weights=_weights(spec),
        recipe=labels.recipe,
        seed=spec.seed,
        run_id=record.run_id,
        record=record if record.status == "done" else None,
        note=note,
    )


def _of_request(request: RunRequest, store: Store) -> _Run:
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
    return _Run(
        key=key,
        identity=_identity(asdict(spec)),
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


def _identity(spec: dict[str, object]) -> str:
    """Return what two runs share that differ in the seed alone."""
    return hash16({key: value for key, value in spec.items() if key != "seed"})


def _weights(spec: RunSpec) -> str:
    return " ".join(filter(None, [spec.weights_sha256, spec.weights_format, spec.weights_branch]))


def _pretrain(record: RunRecord) -> str:
    backbone = record.backbone
    if record.spec.weights_sha256 == FRESH:
        return FRESH
    epochs = f"{backbone.epochs:g} ep" if backbone.epochs else ""
    parts = [backbone.method or backbone.format, backbone.branch, backbone.data, epochs]
    return " ".join(filter(None, parts))


def _table(key: TableKey, runs: Sequence[_Run]) -> Table:
    done = [run.record for run in runs if run.record is not None]
    first = done[0] if done else None
    headline = first.headline if first else ""
    higher = bool(first.metrics[headline]["higher_is_better"]) if first else True
    metrics = tuple(dict.fromkeys(name for record in done for name in record.metrics))
    units = {name: entry["unit"] for record in done for name, entry in record.metrics.items()}
    groups: dict[str, list[_Run]] = defaultdict(list)
    for run in runs:
        groups[run.identity].append(run)
    rows = [_row(group, metrics) for group in groups.values()]
    return Table(
        key=key,
        headline=headline,
        columns=tuple(dict.fromkeys(name for record in done for name in record.columns)),
        metrics=metrics,
        units=units,
        rows=tuple(_ranked(rows, headline, higher)),
    )


def _row(runs: Sequence[_Run], metrics: Sequence[str]) -> Row:
    runs = sorted(runs, key=lambda run: run.seed)
    records = [run.record for run in runs if run.record is not None]
    notes = [(run.seed, run.note) for run in runs if run.note]
    several = len(runs) > 1
    texts = [f"seed {seed} {note}" if several else note for seed, note in notes]
    return Row(
        rank=None,
        entry=runs[0].entry,
        backbone=runs[0].backbone,
        pretrain=runs[0].pretrain,
        weights=runs[0].weights,
        recipe=runs[0].recipe,
        values={name: _value(records, name, runs[0].note) for name in metrics},
        costs={name: _mean([record.cost.get(name) for record in records]) for name in COSTS},
        seeds=tuple(run.seed for run in runs if run.record is not None),
        note="; ".join(texts),
        run_ids=tuple(run.run_id for run in runs),
    )


def _value(records: Sequence[RunRecord], metric: str, note: str) -> Value:
    values = [value for record in records if (value := record.value(metric)) is not None]
    if values:
        return Value(mean(values), stdev(values) if len(values) > 1 else None)
    reasons = [record.metrics.get(metric, {}).get("reason") for record in records]
    return Value(None, reason=next(filter(None, reasons), note))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _ranked(rows: list[Row], headline: str, higher: bool) -> list[Row]:
    """Return rows best first; equal means share a rank."""

    def score(row: Row) -> float | None:
        value = row.values.get(headline)
        return value.mean if value else None

    scored = [(value, row) for row in rows if (value := score(row)) is not None]
    scored.sort(key=lambda pair: (-pair[0] if higher else pair[0], pair[1].entry))
    rest = sorted((row for row in rows if score(row) is None), key=lambda row: row.entry)
    values = [value for value, _ in scored]
    return [
        *(replace(row, rank=values.index(value) + 1) for value, row in scored),
        *rest,
    ]
