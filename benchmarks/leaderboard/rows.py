"""Records to tables of comparable rows; a pure function of what a folder holds."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import fsum, sqrt

from benchmarks.leaderboard.published.figures import PublishedRow, rows_of
from benchmarks.leaderboard.runs import Run, TableKey, read_runs
from benchmarks.store.folders import Scan, Store
from benchmarks.store.record import RunRecord
from benchmarks.store.timing import Doubt, doubt_of
from benchmarks.suites import SUITES


@dataclass(frozen=True)
class Cost:
    """What a number of a record's cost is called in tables.

    Attributes:
        header: Of its column.
        decimals: Digits behind the point.
        more_is_better: Its direction.
    """

    header: str
    decimals: int
    more_is_better: bool = False


# Of a record's cost, what a row shows, by its key there.
COSTS: Mapping[str, Cost] = {
    "parameters_millions": Cost("params M", 1),
    "gflops": Cost("GFLOPs", 1),
    "images_per_second_train": Cost("train img/s", 1, more_is_better=True),
    "images_per_second_test": Cost("test img/s", 1, more_is_better=True),
    "peak_memory_gib": Cost("memory GiB", 2),
    "seconds": Cost("seconds", 0),
}


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
        doubts: By cost, why it must not be compared; see ``store.timing.doubt_of``.
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
    doubts: Mapping[str, Doubt] = field(default_factory=dict)


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
        lower: Those of the metrics of which less is better.
        published: What others printed under the same rules; ranked with nothing.
        heads: Columns that stay however narrow the terminal is: the first one of each task where
            several are joined; empty for the first.
    """

    key: TableKey
    headline: str
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    units: Mapping[str, str]
    rows: tuple[Row, ...]
    lower: tuple[str, ...] = ()
    published: tuple[PublishedRow, ...] = ()
    heads: tuple[str, ...] = ()

    @property
    def joined(self) -> bool:
        """Tell whether this shows several tasks side by side, see ``leaderboard.joined``."""
        return self.key.task_version == 0


def make_tables(
    scan: Scan, store: Store, published: Sequence[PublishedRow] | None = None
) -> list[Table]:
    """Return the tables that a folder of runs comes to; pretraining is in none.

    Args:
        scan: What the folder holds.
        store: The folder, for the state of runs without a record.
        published: Rows of others; None for the project's.
    """
    by_table: dict[TableKey, list[Run]] = defaultdict(list)
    for run in read_runs(scan, store):
        by_table[run.key].append(run)
    order = sorted(by_table, key=lambda key: (key.mini, _place(key.task), str(asdict(key))))
    return [_table(key, by_table[key], store, published) for key in order]


def _place(task: str) -> int:
    """Return where a task stands: as in the suite of all, what people ask first in front."""
    tasks = SUITES["all"].tasks
    return tasks.index(task) if task in tasks else len(tasks)


def _table(
    key: TableKey,
    runs: Sequence[Run],
    store: Store,
    published: Sequence[PublishedRow] | None,
) -> Table:
    done = [run.record for run in runs if run.record is not None]
    first = done[0] if done else None
    headline = first.headline if first else ""
    higher = first.metrics[headline].higher_is_better if first else True
    metrics = tuple(dict.fromkeys(name for record in done for name in record.metrics))
    units = {name: entry.unit for record in done for name, entry in record.metrics.items()}
    better = {n for record in done for n, m in record.metrics.items() if m.higher_is_better}
    groups: dict[bytes, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.identity].append(run)
    rows = _told_apart([_row(group, metrics) for group in groups.values()])
    return Table(
        key=key,
        headline=headline,
        columns=tuple(dict.fromkeys(name for record in done for name in record.columns)),
        metrics=metrics,
        units=units,
        rows=tuple(_ranked(rows, headline, higher)),
        lower=tuple(name for name in metrics if name not in better),
        published=_published(key, first, store, published),
    )


def _told_apart(rows: Sequence[Row]) -> list[Row]:
    """Return rows of which those that share a name say which run is meant."""
    count = Counter(row.entry for row in rows)
    return [
        replace(row, note="; ".join(filter(None, [f"run {row.run_ids[0][:8]}", row.note])))
        if count[row.entry] > 1
        else row
        for row in rows
    ]


def _published(
    key: TableKey,
    example: RunRecord | None,
    store: Store,
    published: Sequence[PublishedRow] | None,
) -> tuple[PublishedRow, ...]:
    if key.mini or key.limit_images is not None:
        return ()
    classes = store.full(example).per_class if example else ()
    return rows_of(key.task, key.protocol, key.data, classes, published)


def _row(runs: Sequence[Run], metrics: Sequence[str]) -> Row:
    runs = sorted(runs, key=lambda run: run.seed)
    records = [run.record for run in runs if run.record is not None]
    notes = [(run.seed, run.note) for run in runs if run.note]
    several = len(runs) > 1
    texts = [f"seed {seed} {note}" if several else note for seed, note in notes]
    costs, doubts = costs_of(records)
    return Row(
        rank=None,
        entry=runs[0].entry,
        backbone=runs[0].backbone,
        pretrain=runs[0].pretrain,
        weights=runs[0].weights,
        recipe=runs[0].recipe,
        values={name: _value(records, name, runs[0].note) for name in metrics},
        costs=costs,
        seeds=tuple(run.seed for run in runs if run.record is not None),
        note="; ".join(texts),
        run_ids=tuple(run.run_id for run in runs),
        doubts=doubts,
    )


def costs_of(
    records: Sequence[RunRecord],
) -> tuple[dict[str, float | None], dict[str, Doubt]]:
    """Return the mean costs of runs, and by cost why it must not be compared.

    Where some of the runs had the machine for themselves, the mean is over these.

    Args:
        records: Of runs that differ only in the seed.
    """
    costs: dict[str, float | None] = {}
    doubts: dict[str, Doubt] = {}
    for name in COSTS:
        known = [(doubt_of(record, name), value) for record in records
                 if (value := record.cost.get(name)) is not None]  # fmt: skip
        sound = [value for doubt, value in known if doubt is None]
        costs[name] = _mean(sound or [value for _, value in known])
        if known and not sound:
            loaded = any(doubt == "loaded" for doubt, _ in known)
            doubts[name] = "loaded" if loaded else "unknown"
    return costs, doubts


def _value(records: Sequence[RunRecord], metric: str, note: str) -> Value:
    found = [entry for record in records if (entry := record.metrics.get(metric))]
    values = [value for entry in found if (value := entry.value) is not None]
    if not values:
        known = next((entry.reason for entry in found if entry.reason), None)
        # A record may be older than a metric of its task; its note speaks of other things.
        return Value(None, reason=known or ("not in these records" if records else note))
    average = _average(values)
    return Value(average, _deviation(values, average))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _average(known) if known else None


# The standard library's own go through fractions, forty times as slowly.
def _average(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _deviation(values: Sequence[float], average: float) -> float | None:
    """Return the sample standard deviation, None of fewer than two values."""
    if len(values) < 2:
        return None
    return sqrt(fsum((value - average) ** 2 for value in values) / (len(values) - 1))


def _ranked(rows: list[Row], headline: str, higher: bool) -> list[Row]:
    """Return rows best first; equal means share a rank."""

    def score(row: Row) -> float | None:
        value = row.values.get(headline)
        return value.mean if value else None

    scored = [(value, row) for row in rows if (value := score(row)) is not None]
    scored.sort(key=lambda pair: (-pair[0] if higher else pair[0], pair[1].entry))
    rest = sorted((row for row in rows if score(row) is None), key=lambda row: row.entry)
    ranks: dict[float, int] = {}
    for place, (value, _) in enumerate(scored, start=1):
        ranks.setdefault(value, place)
    return [*(replace(row, rank=ranks[value]) for value, row in scored), *rest]
