"""``run.py status``: where every run of a folder stands."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from backbones.errors import PreflightError
from benchmarks import output
from benchmarks.leaderboard.layout import Column, text_table
from benchmarks.sweep.plan import run_state
from benchmarks.sweep.record import RunRecord
from benchmarks.sweep.store import Store
from benchmarks.sweep.terminal import describe

_COLUMNS = (
    Column("run", "run"),
    Column("state", "state"),
    Column("entry", "entry"),
    Column("recipe", "recipe"),
    Column("seed", "seed", numeric=True),
    Column("attempts", "attempts", numeric=True),
    Column("note", "note"),
)


@dataclass(frozen=True)
class Options:
    """What was typed; see the command line's own help."""

    out: Path
    json: bool


@dataclass(frozen=True)
class RunStatus:
    """A line of the report; the fields are its columns."""

    run: str
    state: str
    entry: str
    recipe: str
    seed: int
    attempts: int
    note: str


def main(options: Options) -> int:
    """Run the command.

    Raises:
        PreflightError: There is no such folder.
    """
    if not options.out.is_dir():
        raise PreflightError(f"There is no folder {options.out}; --out names the folder of runs.")
    store = Store(options.out)
    scan = store.scan()
    found = [_finished(record) for record in scan.records.values()]
    found += [_unfinished(store, run_id) for run_id in scan.unfinished]
    if options.json:
        output.document([asdict(status) for status in found])
        return 0
    rows = [{key: str(value) for key, value in asdict(status).items()} for status in found]
    for text in text_table(_COLUMNS, rows):
        output.line(text)
    counts = Counter(status.state for status in found)
    output.line(", ".join(f"{number} {state}" for state, number in counts.items()) or "no runs")
    for path, reason in scan.rejected:
        output.note(f"left out: {output.clean(f'{path}: {reason}')}")
    return 0


def _finished(record: RunRecord) -> RunStatus:
    note = record.failure.message if record.failure else f"finished {record.finished}"
    return RunStatus(
        record.run_id,
        record.status,
        record.labels.entry,
        record.labels.recipe,
        record.spec.seed,
        record.attempt,
        note,
    )


def _unfinished(store: Store, run_id: str) -> RunStatus:
    folder = store.folder(run_id)
    request = folder.read_request()
    state, note = run_state(folder)
    beat = folder.read_heartbeat()
    if state == "running" and beat is not None:
        note = f"{describe(beat)} ({note})"
    attempts = beat.attempt if beat else 0
    return RunStatus(
        run_id, state, request.entry, request.recipe, request.spec.seed, attempts, note
    )
