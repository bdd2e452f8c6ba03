"""Last command of a batch script: ``python -m benchmarks.slurm.requeue SUBMISSION ARRAY CODE``.

Only this process decides whether the job is requeued. It is not part of the run, so that loader
workers and other ranks have no say, and a worker that was killed is noticed as well.
"""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from backbones.base.errors import UserError
from backbones.base.json_files import JsonFormat, UnreadableFileError
from benchmarks.slurm import client as slurm
from benchmarks.slurm.job import job_name
from benchmarks.slurm.submission import run_of_job
from benchmarks.store.folders import BusyError, RunFolder
from benchmarks.work.attempts import give_up
from benchmarks.work.contract import BLOCKED, DONE, FAILED, NO_RECORD, STOPPED

T = TypeVar("T")


class _Requeues(Struct, frozen=True, forbid_unknown_fields=True):
    """How far a run came in the attempts of one submission.

    Attributes:
        submission: Name of the submission's folder.
        best: Last step that was reached, by phase.
        without_progress: Attempts in a row that did not get further.
    """

    submission: str
    best: dict[str, int]
    without_progress: int


_FORMAT = JsonFormat(_Requeues, "state of requeues")

MAX_WITHOUT_PROGRESS = 3
_STATE = "requeues.json"
# Slurm's own code for a step that the out-of-memory killer ended, as a status and behind 128.
_OUT_OF_MEMORY = (125, 253)
# slurmctld looks at time limits every 30 s, and a save takes its time.
_LIMIT_MARGIN_SECONDS = 60.0
_TRIES = 3
# A controller that is updated is back by then; until it is, no job is ended at its limit.
_CONTROLLER_PATIENCE_SECONDS = 1800.0
_PAUSE_SECONDS = 5.0
_END_PATIENCE_SECONDS = 60.0
_SETTLED = (DONE, FAILED, NO_RECORD)


def main(arguments: list[str]) -> int:
    """Put the job back into the queue if its run shall go on; return its exit code."""
    submission, array, code = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    folder = run_of_job(submission, array)
    if code in _SETTLED:
        return code
    if code in _OUT_OF_MEMORY or _memory_ran_out():
        give_up(
            folder,
            "OutOfMemory",
            "Its process was killed because the memory that the job asked for ran out.",
            "Raise mem_gb in the cluster's profile, or lower schedule.batch_size_per_device with "
            "--set; the global batch stays as it is.",
        )
        return FAILED
    if not _comes_back(folder, code):
        return code
    try:
        if _without_progress(folder, submission.name) >= MAX_WITHOUT_PROGRESS:
            if code == BLOCKED:
                # Nothing went wrong with this run; it can start once the other is done.
                return code
            give_up(
                folder,
                "NoProgress",
                f"{MAX_WITHOUT_PROGRESS} attempts in a row ended without progress; the last with "
                f"code {code}.",
                "The log next to the record says how they ended.",
            )
            return FAILED
    except BusyError:
        # Its twin goes on, and this job is not needed.
        return code
    put_back()
    return code


def put_back() -> None:
    """Put the job of this process back into the queue, and wait for Slurm to end it."""
    for number in range(_TRIES):
        try:
            _patiently(lambda: slurm.requeue(job_name()))
            break
        except UserError as error:
            sys.stderr.write(f"{error}\n")
            time.sleep(number + 1.0)
    # Slurm ends what is left of this attempt. A script that ended by itself at this moment could be
    # taken for the end of the job, which is pending again; a question that was answered too late
    # may have put it there, and the next one is refused.
    time.sleep(_END_PATIENCE_SECONDS)


def _patiently(ask: Callable[[], T]) -> T:
    """Return what Slurm answers, and wait for it: a job may end just when nobody is there to ask.

    Raises:
        PreflightError: Slurm refuses, or no controller came back.
    """
    end = time.monotonic() + _CONTROLLER_PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except slurm.UnreachableError as error:
            if time.monotonic() > end:
                raise
            sys.stderr.write(f"{error}; it is asked again\n")
        time.sleep(_PAUSE_SECONDS)


def _comes_back(folder: RunFolder, code: int) -> bool:
    """Tell whether Slurm leaves it to us that the run goes on, and whether it shall."""
    if code == BLOCKED and _needed_run_failed(folder):
        return False
    try:
        facts = _patiently(lambda: slurm.job_facts(job_name()))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return False
    # Cancelled by somebody; or preempted or past its limit, and taken care of.
    if facts.get("JobState") != "RUNNING":
        return facts.get("JobState") == "TIMEOUT"
    if code == STOPPED:
        return facts.get("PreemptTime", "None") not in ("None", "N/A", "") or _at_limit(facts)
    return True


def _at_limit(facts: dict[str, str]) -> bool:
    try:
        end = datetime.fromisoformat(facts["EndTime"]).timestamp()
    except (KeyError, ValueError):
        return False
    return time.time() > end - _LIMIT_MARGIN_SECONDS


def _needed_run_failed(folder: RunFolder) -> bool:
    request = folder.read_request()
    needed = RunFolder(folder.path.parent / request.needs)
    return needed.record.exists() and not needed.is_done()


def _without_progress(folder: RunFolder, submission: str) -> int:
    """Return how many attempts in a row did not get further than the ones before, this included.

    Progress is a step in some phase that no attempt of this submission had reached.
    """
    path = folder.path / _STATE
    state = _Requeues(submission, {}, 0)
    with suppress(UnreadableFileError):
        known = _FORMAT.read(path)
        state = known if known.submission == submission else state
    beat = folder.read_heartbeat()
    phase, step = (beat.phase, beat.step) if beat is not None else ("start", 0)
    if step > state.best.get(phase, 0):
        state = replace(state, best={**state.best, phase: step}, without_progress=0)
    else:
        state = replace(state, without_progress=state.without_progress + 1)
    _FORMAT.write(path, state)
    return state.without_progress


def _memory_ran_out() -> bool:
    """Tell whether the kernel killed a process of this job for want of memory, as cgroup 2 counts.

    The folder of the job is the one above that of its batch step.
    """
    try:
        own = Path("/proc/self/cgroup").read_text("utf-8").strip().rpartition("::")[2]
        parts = Path(own).parts
        depth = next(i for i, part in enumerate(parts) if part.startswith("job_")) + 1
        events = Path("/sys/fs/cgroup").joinpath(*parts[1:depth]) / "memory.events"
        counts = dict(text.split() for text in events.read_text("utf-8").splitlines())
        return int(counts.get("oom_kill", "0")) > 0
    except (OSError, StopIteration, ValueError):
        return False


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
