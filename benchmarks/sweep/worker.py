"""Do one run in its folder: ``python -m benchmarks.sweep.worker FOLDER``. Starts without torch.

Standard output carries lines for a person and nothing else; what libraries say goes to standard
error, which the launcher sends to a log. The record is the result; the exit code only hints.
"""

import contextlib
import os
import socket
import sys
import threading
import time
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from backbones.errors import StoppedError, UserError
from backbones.files import cannot_write, sha256_file
from backbones.monitor import Progress
from benchmarks.sweep.execute import Outcome, execute, failed_record
from benchmarks.sweep.heartbeat import INTERVAL_SECONDS, Heartbeat, write_heartbeat
from benchmarks.sweep.interrupt import EXIT_CODE as STOPPED
from benchmarks.sweep.interrupt import Interrupt
from benchmarks.sweep.record import Attempt, BadRecordError
from benchmarks.sweep.spec import RunRequest
from benchmarks.sweep.store import BusyError, RunFolder

DONE, FAILED, NO_RECORD, BLOCKED, BUSY = 0, 3, 4, 69, 75
FRESH = "fresh"
# Set by a launcher that wants its workers to save and leave when it dies.
FOLLOW_PARENT = "BACKBENCH_FOLLOW_PARENT"


class WorkerMonitor:
    """Reports a run's progress to its heartbeat file and its words to a person.

    Args:
        folder: Of the run.
        attempt: Which start of the run this is.
        interrupt: Holds the wish to stop.
        words: Where lines for a person go.
    """

    def __init__(
        self, folder: RunFolder, attempt: int, interrupt: Interrupt, words: TextIO
    ) -> None:
        now = time.time()
        self._folder = folder
        self._interrupt = interrupt
        self._words = words
        self._parent = os.getppid() if os.environ.get(FOLLOW_PARENT) else None
        self._beat = Heartbeat(os.getpid(), socket.gethostname(), attempt, now, now)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._pulse, daemon=True)

    def __enter__(self) -> "WorkerMonitor":
        write_heartbeat(self._folder.heartbeat, self._beat)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()
        write_heartbeat(self._folder.heartbeat, replace(self._beat, time=time.time()))

    @property
    def phase(self) -> str:
        """What the run is doing."""
        return self._beat.phase

    def progress(self, progress: Progress) -> None:
        """Take notice; the heartbeat thread writes it down."""
        self._beat = replace(
            self._beat,
            phase=progress.phase,
            step=progress.step,
            num_steps=progress.num_steps,
            images_per_second=progress.images_per_second,
            losses=dict(progress.losses or {}),
            lr=progress.lr,
        )

    def say(self, text: str) -> None:
        """Show a line to a person and keep it in the log."""
        sys.stderr.write(text + "\n")
        # Nobody may be listening any more; a run does not end for that.
        with contextlib.suppress(OSError):
            self._words.write(text + "\n")
            self._words.flush()

    def should_stop(self) -> bool:
        """Tell whether to save and leave."""
        return self._interrupt.requested

    def _pulse(self) -> None:
        while not self._end.wait(INTERVAL_SECONDS):
            write_heartbeat(self._folder.heartbeat, replace(self._beat, time=time.time()))
            if self._parent is not None and os.getppid() != self._parent:
                self._interrupt.request()


def main(arguments: list[str]) -> int:
    """Do the run in the folder ``arguments[0]``; ``fresh`` behind it drops what is there.

    Returns:
        0 done, 3 failed, 4 nothing could be written, 69 a run it needs is not done, 75 another
        process does it, 130 stopped.
    """
    interrupt = Interrupt(on_second=lambda: os._exit(STOPPED))
    interrupt.install()
    words = _claim_stdout()
    folder = RunFolder(Path(arguments[0]))
    try:
        with folder.lock():
            if FRESH in arguments[1:]:
                folder.reset()
            elif _is_done(folder):
                return DONE
            reason = _blocked(folder)
            if reason:
                words.write(f"{reason}\n")
                return BLOCKED
            return _attempt(folder, interrupt, words)
    except BusyError as error:
        words.write(f"{error}\n")
        return BUSY
    except (UserError, BadRecordError) as error:
        words.write(f"{error}\n")
        return NO_RECORD


def _claim_stdout() -> TextIO:
    """Keep standard output for ourselves; what libraries print there goes to standard error."""
    words = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return words


def _is_done(folder: RunFolder) -> bool:
    try:
        record = folder.read_record()
    except BadRecordError:
        return False
    return record is not None and record.status == "done"


def _blocked(folder: RunFolder) -> str:
    """Return why the run cannot start yet, empty when it can."""
    request = folder.read_request()
    if not request.needs or _is_done(RunFolder(folder.path.parent / request.needs)):
        return ""
    return not_ready(request)


def not_ready(request: RunRequest) -> str:
    """Return the sentence for a run whose pretraining is not done."""
    return (
        f"The pretraining of {request.entry} (run {request.needs}) is not done, so there are no "
        "weights to measure; mend that first."
    )


def _attempt(folder: RunFolder, interrupt: Interrupt, words: TextIO) -> int:
    """Start the run once more, whatever came before, and leave a record or saved state."""
    attempt = _open_attempt(folder)
    request = folder.read_request()
    with WorkerMonitor(folder, attempt.number, interrupt, words) as monitor:
        try:
            outcome = execute(request, folder, monitor)
        except StoppedError:
            _close_attempt(folder, attempt, "stopped", f"asked to stop in {monitor.phase}")
            return STOPPED
        # SystemExit included: a library that exits must not pass for a finished run.
        except BaseException as error:
            traceback.print_exc()
            failure = failed_record(request, error, monitor.phase)
            return _finish(folder, attempt, failure)
    return _finish(folder, attempt, outcome)


def _finish(folder: RunFolder, attempt: Attempt, outcome: Outcome) -> int:
    status: Literal["done", "failed"] = outcome.record.status
    reason = outcome.record.failure.message if outcome.record.failure else ""
    _close_attempt(folder, attempt, status, reason)
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
    return DONE if status == "done" else FAILED


def _open_attempt(folder: RunFolder) -> Attempt:
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


def _close_attempt(
    folder: RunFolder,
    attempt: Attempt,
    outcome: Literal["done", "failed", "stopped"],
    reason: str,
) -> None:
    try:
        folder.add_attempt(replace(attempt, ended=_now(), outcome=outcome, reason=reason))
    except OSError as error:
        raise cannot_write(folder.journal, error) from error


def _file_facts(folder: RunFolder, path: Path) -> dict[str, Any]:
    return {
        "path": str(path.relative_to(folder.path)),
        "sha256": sha256_file(path),
        "bytes": path.stat().st_size,
    }


def _now() -> str:
    return _iso(time.time())


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
