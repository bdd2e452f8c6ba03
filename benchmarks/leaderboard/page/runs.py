"""The provenance of every run behind a page: what it was, ran on, cost, and how to repeat it."""

import math
from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict

from backbones.base.files import canonical_json
from benchmarks.leaderboard.page.pictures import Album
from benchmarks.leaderboard.page.repeat import Repeater
from benchmarks.store.folders import Scan, Store
from benchmarks.store.record import MAX_CURVE_POINTS, FullRecord, MetricValue, RunRecord
from benchmarks.store.record_file import BadRecordError
from benchmarks.store.spec import RunRequest, RunSpec

# Numbers of all curves of a page; more runs get fewer points each, and below the fewest only what
# people look at first.
_CURVE_BUDGET = 100_000
_FEWEST_POINTS = 16
_FIRST_LOOKED_AT = frozenset({"step", "loss", "lr"})
# Digits of a file's checksum: enough to know it by; the record has them all.
_DIGITS = 16


class _Shared:
    """Values that many runs have in common, each kept once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        """Return where a value stands in ``values``."""
        key = canonical_json(value)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]


def run_details(
    run_ids: Sequence[str], scan: Scan, store: Store, anonymous: bool = False
) -> dict[str, Any]:
    """Return the details of runs by id, and what they share.

    Args:
        run_ids: Of the runs; those that the folder does not hold are left out.
        scan: What the folder holds.
        store: The folder, for requests, journals and pictures.
        anonymous: Leave requests and journals alone, which know hosts and paths.
    """
    recipes, environments = _Shared(), _Shared()
    repeater, album = Repeater(), Album()
    records = [store.full(scan.records[run_id]) for run_id in run_ids if run_id in scan.records]
    points, fewer_curves = _points(records)
    runs = {}
    for record in records:
        request = None if anonymous else _request(store, record.run_id)
        environment = dict(record.environment)
        runs[record.run_id] = {
            **_facts(record),
            "repeat": repeater.of_record(record, request),
            "slurm": environment.pop("slurm", None),
            "recipe": recipes.place(dict(record.spec.recipe)),
            "environment": environments.place(environment),
            "curves": {
                name: _thin(curve, points)
                for name, curve in record.curves.items()
                if _is_main(name) or not fewer_curves
            },
            "pictures": album.of_run(store.folder(record.run_id), record),
        }
    for run_id in run_ids:
        if run_id in scan.unfinished:
            runs[run_id] = _waiting(scan.unfinished[run_id], None if anonymous else store, repeater)
    return {
        "runs": runs,
        "recipes": recipes.values,
        "environments": environments.values,
        "fewer_curves": fewer_curves,
    }


def _facts(record: RunRecord) -> dict[str, Any]:
    return {
        "status": record.status,
        "attempt": record.attempt,
        "created": record.created,
        "finished": record.finished,
        "spec": _spec(record.spec),
        "labels": asdict(record.labels),
        "backbone": asdict(record.backbone),
        "metrics": {name: _metric(facts) for name, facts in record.metrics.items()},
        "cost": {name: _significant(value) for name, value in record.cost.items()},
        "attempts": [list(asdict(attempt).values()) for attempt in record.attempts],
        "failure": asdict(record.failure) if record.failure else None,
        "warnings": list(record.warnings),
        "details": dict(record.details),
        "files": [[f.path, f.sha256[:_DIGITS], f.bytes] for f in record.files],
    }


def _waiting(request: RunRequest, store: Store | None, repeater: Repeater) -> dict[str, Any]:
    """Return what is known of a run without a record."""
    attempts = store.folder(request.spec.run_id).read_attempts() if store else ()
    return {
        "status": "unfinished",
        "spec": _spec(request.spec),
        "attempts": [list(asdict(attempt).values()) for attempt in attempts],
        "repeat": repeater.of_request(request),
    }


def _spec(spec: RunSpec) -> dict[str, Any]:
    """Return a run's identity but for its recipe, which many runs share."""
    return {name: value for name, value in asdict(spec).items() if name != "recipe"}


def _metric(facts: MetricValue) -> float | str | None:
    value = facts.value
    return facts.reason if value is None else round(float(value), 3)


def _request(store: Store, run_id: str) -> RunRequest | None:
    try:
        return store.folder(run_id).read_request()
    except BadRecordError:
        return None


def _points(records: Sequence[FullRecord]) -> tuple[int, bool]:
    """Return how many points each curve gets, and whether there is room for the main ones alone."""
    names = [name for record in records for name in record.curves]
    fewer_curves = _CURVE_BUDGET // max(1, len(names)) < _FEWEST_POINTS
    count = sum(map(_is_main, names)) if fewer_curves else len(names)
    points = _CURVE_BUDGET // max(1, count)
    return min(MAX_CURVE_POINTS // 2, max(2, points)), fewer_curves


def _is_main(name: str) -> bool:
    """Tell whether a curve is a run's loss, its rate, or what evaluations found on the way."""
    return name in _FIRST_LOOKED_AT or "/" in name


def _thin(series: Sequence[float | None], points: int) -> list[float | None]:
    last = len(series) - 1
    if last < points:
        return [_significant(value) for value in series]
    return [_significant(series[round(i * last / (points - 1))]) for i in range(points)]


def _significant(value: float | None) -> float | None:
    """Return a number with three digits that count; a whole one, such as a step, as it is."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else float(f"{value:.3g}")
