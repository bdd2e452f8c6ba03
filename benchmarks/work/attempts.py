"""The starts of a run: opened, written down, closed with a record."""

import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from backbones.base.files import cannot_write, sha256_file
from benchmarks.store.folders import RunFolder
from benchmarks.store.record import Attempt, Failure, RunFile
from benchmarks.work.recorded import ExecutedRun, failed_record

_SOME_FAILED = 3


def give_up(folder: RunFolder, kind: str, message: str, hint: str) -> None:
    """Leave a record of failure for a run whose process cannot do so any more.

    Args:
        folder: Folder of the run.
        kind: Type of the failure.
        message: What happened, one sentence.
        hint: How to fix it.

    Raises:
        BusyError: The run is at work after all.
    """
    beat = folder.read_heartbeat()
    phase = beat.phase if beat is not None else "start"
    record_failure(folder, Failure(phase, kind, message, hint, _SOME_FAILED))


def record_failure(folder: RunFolder, failure: Failure) -> None:
    """Leave a record of a failure as ``give_up`` does.

    Args:
        folder: Folder of the run.
        failure: What happened.

    Raises:
        BusyError: The run is at work after all.
    """
    with folder.lock():
        if folder.is_done():
            return
        number = open_attempt(folder).number - 1
        attempts = folder.read_attempts()
        error = RuntimeError(failure.message)
        outcome = failed_record(folder.read_request(), error, failure.phase)
        record = replace(
            outcome.record,
            failure=failure,
            attempt=max(1, number),
            created=attempts[0].started if attempts else _now(),
            finished=_now(),
            attempts=attempts,
        )
        folder.write_record(record)


def finish(folder: RunFolder, attempt: Attempt, outcome: ExecutedRun) -> Literal["done", "failed"]:
    """Write the journal and the record of a run that ended, and return how it did."""
    status: Literal["done", "failed"] = outcome.record.status
    reason = outcome.record.failure.message if outcome.record.failure else ""
    close_attempt(folder, attempt, status, reason)
    attempts = folder.read_attempts()
    record = replace(
        outcome.record,
        attempt=attempt.number,
        created=attempts[0].started,
        finished=_now(),
        attempts=attempts,
        files=tuple(_file_facts(folder, path) for path in outcome.files),
    )
    folder.write_record(record)
    return status


def open_attempt(folder: RunFolder) -> Attempt:
    """Return a new attempt; one that vanished without a word is written down as lost."""
    attempts = folder.read_attempts()
    last = attempts[-1].number if attempts else 0
    beat = folder.read_heartbeat()
    if beat is not None and beat.attempt > last:
        started, ended = _iso(beat.started), _iso(beat.time)
        reason = f"its process vanished in {beat.phase} {beat.step}/{beat.num_steps}"
        folder.add_attempt(Attempt(beat.attempt, beat.host, started, ended, "lost", reason))
        last = beat.attempt
    now = _now()
    return Attempt(last + 1, socket.gethostname(), now, now, "lost", "")


def close_attempt(
    folder: RunFolder,
    attempt: Attempt,
    outcome: Literal["done", "failed", "stopped", "lost"],
    reason: str,
) -> None:
    """Write down how an attempt ended.

    Raises:
        PreflightError: The journal cannot be written.
    """
    try:
        folder.add_attempt(replace(attempt, ended=_now(), outcome=outcome, reason=reason))
    except OSError as error:
        raise cannot_write(folder.journal, error) from error


def _file_facts(folder: RunFolder, path: Path) -> RunFile:
    relative = str(path.relative_to(folder.path))
    return RunFile(relative, sha256_file(path), path.stat().st_size)


def _now() -> str:
    return _iso(time.time())


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
