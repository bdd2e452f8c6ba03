"""Which runs are done, which are not, and what the others would cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.plan.estimate import Estimate, Estimator
from benchmarks.plan.rules import about
from benchmarks.store.folders import Scan, State, Store, run_state
from benchmarks.store.record import RunRecord
from benchmarks.store.record_file import BadRecordError, OtherSchemaError
from benchmarks.store.spec import RunRequest

Rerun = Literal["missing", "failed", "stale", "all"]

# Each choice of --rerun includes the ones before it. "running" is in all of them: the lock, not
# the plan, decides who does a run.
_RERUN: dict[Rerun, frozenset[State]] = {
    "missing": frozenset({"missing", "interrupted", "running"}),
    "failed": frozenset({"missing", "interrupted", "running", "failed"}),
    "stale": frozenset({"missing", "interrupted", "running", "failed", "stale"}),
    "all": frozenset({"missing", "interrupted", "running", "failed", "stale", "done"}),
}


@dataclass(frozen=True)
class Cell:
    """A run of the plan, and where it stands.

    Attributes:
        request: The run.
        state: "stale" is a run whose question has only been answered under older rules.
        note: More about the state, one sentence or empty.
        record: The outcome under the present rules, if there is one.
        estimate: Cost of the run; None if it is unknown.
    """

    request: RunRequest
    state: State
    note: str = ""
    record: RunRecord | None = None
    estimate: Estimate | None = None


def make_plan(
    requests: Sequence[RunRequest], store: Store, scan: Scan, gpu: bool = False
) -> list[Cell]:
    """Return the state of each requested run.

    Args:
        requests: The runs.
        store: Folder of their records.
        scan: Contents of the store.
        gpu: Whether the runs get GPUs, for guesses of what they cost.
    """
    cost = Estimator(list(scan.records.values()), gpu)
    answered = {record.cell: record for record in scan.records.values() if record.status == "done"}
    return [_cell(request, store, scan, answered, cost(request)) for request in requests]


def chosen(cells: Sequence[Cell], rerun: Rerun) -> list[Cell]:
    """Return the cells that a ``--rerun`` choice does."""
    return [cell for cell in cells if cell.state in _RERUN[rerun]]


def _cell(
    request: RunRequest,
    store: Store,
    scan: Scan,
    answered: dict[str, RunRecord],
    cost: Estimate | None,
) -> Cell:
    record = scan.records.get(request.spec.run_id)
    if record is not None:
        note = record.failure.message if record.failure else _left_aside(request, store)
        return Cell(request, record.status, note, record, cost)
    folder = store.folder(request.spec.run_id)
    state, note = run_state(folder)
    beat = folder.read_heartbeat()
    if state == "running" and beat is not None:
        note = f"{note}, process {beat.pid} on {beat.host}"
    try:
        folder.read_record()
    except OtherSchemaError as error:
        # It may be newer than this program: it stays unless somebody asks for another run.
        why = f"its record is of another version of this program ({error}); --rerun stale sets it"
        return Cell(request, "stale", f"{why} aside", None, cost)
    except BadRecordError as error:
        fault = f"its record is set aside: {error}"
        return Cell(request, state, f"{note}; {fault}" if note else fault, None, cost)
    older = answered.get(request.cell)
    if older is None and request.former_fingerprint:
        older = answered.get(request.former_cell)
    if state == "missing" and older is not None:
        return Cell(request, "stale", _difference(request, older), None, cost)
    return Cell(request, state, note, None, cost)


def _left_aside(request: RunRequest, store: Store) -> str:
    """Say that a finished run had other values outside its identity than those asked for now."""
    if not request.overrides_not_in_spec:
        return ""
    try:
        before = store.folder(request.spec.run_id).read_request().overrides_not_in_spec
    except BadRecordError:
        before = ()
    if before == request.overrides_not_in_spec:
        return ""
    asked = " ".join(f"--set {text}" for text in request.overrides_not_in_spec)
    return f"done without {asked}, which changes no result; --rerun all does it again with it"


def _difference(request: RunRequest, older: RunRecord) -> str:
    """Say why an older record does not count any more."""
    if older.spec.task_version != request.spec.task_version:
        change = f"version {older.spec.task_version} of {request.spec.task}"
    elif older.labels.protocol != request.protocol:
        change = f"protocol {older.labels.protocol}"
    elif older.spec.data_fingerprint != request.spec.data_fingerprint:
        change = "an identity of names and sizes, when the images' content was not read"
    elif older.spec.rules != request.spec.rules:
        return _other_rules(request, older)
    elif older.spec.backbone_sha256 != request.spec.backbone_sha256:
        change = f"another file of {request.spec.backbone}"
    else:
        change = f"another recipe {request.recipe}"
    return f"done under {change} (run {older.run_id})"


def _other_rules(request: RunRequest, older: RunRecord) -> str:
    """Say which rules an older record was made without, or under."""
    ours, theirs = request.spec.rules, older.spec.rules
    came = about(tuple(rule for rule in ours if rule not in theirs))
    went = about(tuple(rule for rule in theirs if rule not in ours))
    parts = [f"before the rule {came}"] if came else []
    parts += [f"under the rule {went}"] if went else []
    return f"done {' and '.join(parts)} (run {older.run_id})"
