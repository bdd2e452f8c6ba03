"""Last command of a batch script: ``python -m benchmarks.slurm.requeue SUBMISSION ARRAY CODE``.

Only this process decides whether the job is requeued. It is not part of the run, so that loader
workers and other ranks have no say, and a worker that was killed is noticed as well.
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from backbones.base.errors import UserError
from backbones.base.monitor import GRACE_SECONDS
from benchmarks.slurm import client as slurm
from benchmarks.slurm.job import REQUEUE, job_name
from benchmarks.slurm.progress import note_attempt
from benchmarks.slurm.submission import run_of_job
from benchmarks.store.folders import BusyError, RunFolder
from benchmarks.work.attempts import give_up, record_failure
from benchmarks.work.contract import BLOCKED, BUSY, DONE, FAILED, NO_RECORD, STOPPED
from benchmarks.work.crash import CRASHES, note_crash
from benchmarks.work.ranks import failure_of_another

T = TypeVar("T")


MAX_WITHOUT_PROGRESS = 3
# Slurm's own code for a step that the out-of-memory killer ended, as a status and behind 128.
_OUT_OF_MEMORY = (125, 253)
# slurmctld looks at time limits every 30 s, and a save takes its time.
_LIMIT_MARGIN_SECONDS = 60.0
# It sends the signal to save up to 60 s before it is due (sbatch(1), --signal).
_SIGNAL_MARGIN_SECONDS = 60.0
_TRIES = 3
# A controller that is updated is back by then; until it is, no job is ended at its limit.
_CONTROLLER_PATIENCE_SECONDS = 1800.0
_PAUSE_SECONDS = 5.0
_END_PATIENCE_SECONDS = 60.0
# What a shell adds to the number of the signal that ended a process.
_BEHIND_SIGNAL = 128
_ASKED = (REQUEUE, STOPPED, BUSY, BLOCKED)
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
    if code not in _ASKED and _told_by_another(folder):
        return FAILED
    facts = _facts_if_back(folder, code)
    if facts is None:
        return code
    if code - _BEHIND_SIGNAL in CRASHES and _crashed_again(folder, code - _BEHIND_SIGNAL):
        return FAILED
    try:
        if _ends_here(folder, submission, facts, code):
            return code if code == BLOCKED else FAILED
    except BusyError:
        # Its twin goes on, and this job is not needed.
        return code
    put_back()
    return code


def _told_by_another(folder: RunFolder) -> bool:
    """Record what ended a process other than the first; return whether there was such word."""
    told = failure_of_another(folder)
    if told is None:
        return False
    with suppress(BusyError):
        record_failure(folder, told)
        return True
    return False


def _crashed_again(folder: RunFolder, number: int) -> bool:
    where, ended = note_crash(folder, number)
    sys.stderr.write(f"The run crashed {where}.\n")
    return ended


def _ends_here(folder: RunFolder, submission: Path, facts: dict[str, str], code: int) -> bool:
    """Tell whether a run has had enough attempts; record the failure of one that has.

    Raises:
        BusyError: The run is at work after all.
    """
    limit = _minutes_of(facts) if code != BLOCKED and _ended_by_limit(facts, code) else 0
    state = note_attempt(folder, submission.name, limit)
    if limit and state.notice:
        sys.stderr.write(f"{state.notice}\n")
    if state.without_progress < MAX_WITHOUT_PROGRESS:
        return False
    # Nothing went wrong with a blocked run; it can start once the other is done.
    if code != BLOCKED:
        give_up(
            folder,
            "NoProgress",
            f"{MAX_WITHOUT_PROGRESS} attempts in a row ended without progress; the last with "
            f"code {code}.",
            state.notice or "The log next to the record says how they ended.",
        )
    return True


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


def _facts_if_back(folder: RunFolder, code: int) -> dict[str, str] | None:
    """Return Slurm's facts of the job if it is left to us that the run goes on and it shall."""
    if code == BLOCKED and _needed_run_failed(folder):
        return None
    try:
        facts = _patiently(lambda: slurm.job_facts(job_name()))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return None
    # Cancelled by somebody; or preempted or past its limit, and taken care of.
    if facts.get("JobState") != "RUNNING":
        return facts if facts.get("JobState") == "TIMEOUT" else None
    if code == STOPPED and not _preempted(facts) and not _near_end(facts, _LIMIT_MARGIN_SECONDS):
        return None
    return facts


def _preempted(facts: dict[str, str]) -> bool:
    return facts.get("PreemptTime", "None") not in ("None", "N/A", "")


def _ended_by_limit(facts: dict[str, str], code: int) -> bool:
    """Tell whether the time limit ended the attempt, or the signal that comes before it."""
    if facts.get("JobState") == "TIMEOUT":
        return True
    margin = _LIMIT_MARGIN_SECONDS
    if code in (REQUEUE, STOPPED):
        margin += float(os.environ.get(GRACE_SECONDS, "0")) + _SIGNAL_MARGIN_SECONDS
    return not _preempted(facts) and _near_end(facts, margin)


def _near_end(facts: dict[str, str], margin: float) -> bool:
    try:
        end = datetime.fromisoformat(facts["EndTime"]).timestamp()
    except (KeyError, ValueError):
        return False
    return time.time() > end - margin


def _minutes_of(facts: dict[str, str]) -> int:
    """Return a job's time limit, which Slurm writes as [days-]hours:minutes:seconds; 0 for none."""
    days, _, clock = facts.get("TimeLimit", "").rpartition("-")
    parts = clock.split(":")
    if len(parts) != 3 or not all(part.isdecimal() for part in (days or "0", *parts)):
        return 0
    hours, minutes, _ = map(int, parts)
    return (int(days or "0") * 24 + hours) * 60 + minutes


def _needed_run_failed(folder: RunFolder) -> bool:
    request = folder.read_request()
    needed = RunFolder(folder.path.parent / request.needs)
    return needed.record.exists() and not needed.is_done()


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
