"""``run.py status``: where every run of a folder stands."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from backbones.base.errors import PreflightError
from benchmarks import output
from benchmarks.local.terminal import describe
from benchmarks.options import StatusOptions
from benchmarks.slurm import client as slurm
from benchmarks.slurm.progress import read_requeues
from benchmarks.slurm.submission import known_jobs, queued_runs, read_submissions
from benchmarks.store.finished import faults_of_finished
from benchmarks.store.folders import Scan, Store, run_state
from benchmarks.store.record import RunRecord
from benchmarks.store.spec import RunRequest
from benchmarks.text_table import Column, text_table

# What no process is at work on, so that it is worth knowing how its job ended.
_OVER = ("missing", "interrupted")

_COLUMNS = (
    Column("run", "run"),
    Column("state", "state"),
    Column("task", "task"),
    Column("entry", "entry"),
    Column("recipe", "recipe", priority=2),
    Column("seed", "seed", numeric=True),
    Column("attempts", "attempts", numeric=True, priority=3),
    Column("job", "job", priority=1),
    Column("note", "note", below=True),
)


@dataclass(frozen=True)
class RunStatus:
    """A line of the report; the fields are its columns."""

    run: str
    state: str
    task: str
    entry: str
    recipe: str
    seed: int
    attempts: int
    job: str
    note: str


def main(options: StatusOptions) -> int:
    """Run the command.

    Raises:
        PreflightError: There is no such folder.
    """
    store = open_store(options.out)
    found, scan = survey(store)
    if options.json:
        output.document([asdict(status) for status in found])
    else:
        for text in status_lines(found):
            output.line(text)
    output.left_out(scan.rejected)
    return 0


def open_store(out: Path) -> Store:
    """Return a folder of runs that has to be there.

    Raises:
        PreflightError: It is not.
    """
    if not out.is_dir():
        raise PreflightError(f"There is no folder {out}; --out names the folder of runs.")
    return Store(out)


def survey(store: Store) -> tuple[list[RunStatus], Scan]:
    """Return where all runs stand: our own files first, Slurm's queue second, accounting third.

    Args:
        store: The folder of runs.

    Returns:
        A line for each run, and what the folder held when they were drawn up.
    """
    # The queue may answer late; a run that ends meanwhile must not be looked up in an old scan.
    rejected: list[tuple[Path, str]] = []
    jobs = _jobs(store, rejected)
    scan = store.scan()
    rejected += faults_of_finished(store, scan.records)
    scan = replace(scan, rejected=(*scan.rejected, *rejected))
    ended = _endings(store, set(scan.unfinished) - set(jobs))
    failed = {run for run, record in scan.records.items() if record.status == "failed"}
    found = [_finished(record) for record in scan.records.values()]
    for run_id, request in scan.unfinished.items():
        status = _unfinished(store, request, jobs.get(run_id), request.needs in failed)
        if run_id in ended and status.state in _OVER:
            job, how = ended[run_id]
            note = "; ".join(filter(None, [status.note, f"Slurm's accounting: {how}"]))
            status = replace(status, job=job, note=note)
        found.append(status)
    return found, scan


def status_lines(found: list[RunStatus]) -> list[str]:
    """Return the table and the counts, as lines."""
    rows = [{key: str(value) for key, value in asdict(status).items()} for status in found]
    shown = [column for column in _COLUMNS if column.key != "job" or any(r["job"] for r in rows)]
    counts = Counter(status.state for status in found)
    summary = ", ".join(f"{number} {state}" for state, number in counts.items()) or "no runs"
    return [*text_table(shown, rows), summary]


def _jobs(store: Store, rejected: list[tuple[Path, str]]) -> Mapping[str, slurm.QueuedJob]:
    """Return the jobs of runs, by run id; none where nothing was ever submitted.

    Args:
        store: The folder of runs.
        rejected: Gets the submissions that are left out, each with the reason.
    """
    if not read_submissions(store, rejected):
        return {}
    try:
        return queued_runs(store, slurm.queue())
    except PreflightError as error:
        output.note(f"Slurm's queue is not in this table: {error}.")
        return {}


def _endings(store: Store, runs: set[str]) -> dict[str, tuple[str, str]]:
    """Return the job of runs that are over for Slurm and how it ended, where accounting tells."""
    jobs = {run: job for run, job in known_jobs(store).items() if run in runs}
    ended = slurm.endings(sorted(jobs.values()))
    return {run: (job, ended[job]) for run, job in jobs.items() if job in ended}


def _finished(record: RunRecord) -> RunStatus:
    note = record.failure.message if record.failure else f"finished {record.finished}"
    return RunStatus(
        record.run_id,
        record.status,
        record.spec.task,
        record.labels.entry,
        record.labels.recipe,
        record.spec.seed,
        record.attempt,
        str(record.environment.get("slurm", {}).get("job", "")),
        note,
    )


def _unfinished(
    store: Store, request: RunRequest, job: slurm.QueuedJob | None, needs_failed: bool
) -> RunStatus:
    run_id = request.spec.run_id
    folder = store.folder(run_id)
    state: str
    state, note = run_state(folder)
    beat = folder.read_heartbeat()
    if beat is not None and state == "running":
        note = f"{describe(beat, beat.seconds_left)} (process {beat.pid} on {beat.host})"
        state = "stalled" if beat.stalled else state
    elif job is not None and job.state == "RUNNING":
        state, note = "starting", "; ".join(filter(None, [f"for {job.elapsed}", note]))
    elif job is not None:
        state, note = "queued", "; ".join(filter(None, [job.reason, note]))
    elif needs_failed:
        state, note = "blocked", f"run {request.needs}, which it needs, failed"
    requeues = read_requeues(folder)
    if requeues is not None and requeues.notice:
        note = "; ".join(filter(None, [note, requeues.notice]))
    return RunStatus(
        run_id,
        state,
        request.spec.task,
        request.entry,
        request.recipe,
        request.spec.seed,
        beat.attempt if beat else 0,
        job.job if job else "",
        note,
    )
