"""Do one run in its folder: ``python -m benchmarks.work.worker FOLDER``.

Standard output carries lines for a person and nothing else; what libraries say goes to standard
error, which the launcher sends to a log. The record is the result; the exit code only hints.
"""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from msgspec.structs import replace

from backbones.base.errors import DeviceFullError, StoppedError, UserError
from benchmarks.store.folders import BusyError, RunFolder
from benchmarks.store.record import Attempt
from benchmarks.store.record_file import BadRecordError
from benchmarks.store.spec import RunRequest, not_ready
from benchmarks.work.attempts import close_attempt, finish, open_attempt
from benchmarks.work.contract import BLOCKED, BUSY, DONE, FAILED, FRESH, LOST, NO_RECORD, STOPPED
from benchmarks.work.crash import begin_notes, explained
from benchmarks.work.execute import execute
from benchmarks.work.follower import hand_out_ticket, lost_a_process
from benchmarks.work.interrupt import Interrupt
from benchmarks.work.memory import learn, release_memory
from benchmarks.work.monitor import WorkerMonitor
from benchmarks.work.ranks import failure_of_another, forget_failures
from benchmarks.work.recorded import ExecutedRun, failed_record
from benchmarks.work.tracking import tracked

# Within this process: the run is to be started again with fewer images at once.
_FEWER = -1


def main(arguments: list[str]) -> int:
    """Do the run in the folder ``arguments[0]``; ``fresh`` after it deletes its contents first.

    Returns:
        0 done, 3 failed, 4 nothing could be written, 69 a run it needs is not done, 75 another
        process does it, 76 another process of the run was lost, 130 stopped.
    """
    interrupt = Interrupt(on_second=lambda: os._exit(STOPPED))
    interrupt.install()
    folder = RunFolder(Path(arguments[0]))
    return work(folder, interrupt, claim_stdout(), fresh=FRESH in arguments[1:])


def work(
    folder: RunFolder,
    interrupt: Interrupt,
    stdout: TextIO,
    fresh: bool = False,
    begin: Callable[[], None] = lambda: None,
) -> int:
    """Do the run in a folder, unless it is done, at work elsewhere, or cannot start yet.

    Args:
        folder: Folder of the run.
        interrupt: Whether somebody asked to stop.
        stdout: Stream for messages to a person.
        fresh: Delete what earlier attempts left.
        begin: Called after the run is locked, before it starts.

    Returns:
        As ``main``.
    """
    try:
        with folder.lock():
            if fresh:
                folder.reset()
            elif folder.is_done():
                return DONE
            reason = _blocked(folder)
            if reason:
                stdout.write(f"{reason}\n")
                return BLOCKED
            begin()
            begin_notes(folder)
            forget_failures(folder)
            hand_out_ticket(folder)
            return _attempt(folder, interrupt, stdout)
    except BusyError as error:
        stdout.write(f"{error}\n")
        return BUSY
    except (UserError, BadRecordError) as error:
        stdout.write(f"{error}\n")
        return NO_RECORD


def claim_stdout() -> TextIO:
    """Keep standard output for ourselves; what libraries print there goes to standard error."""
    # A character that the terminal cannot encode must not end a run.
    stdout = os.fdopen(os.dup(1), "w", errors="replace")
    os.dup2(2, 1)
    return stdout


def _blocked(folder: RunFolder) -> str:
    """Return why the run cannot start yet, empty when it can."""
    request = folder.read_request()
    if not request.needs or RunFolder(folder.path.parent / request.needs).is_done():
        return ""
    return not_ready(request)


def _attempt(folder: RunFolder, interrupt: Interrupt, stdout: TextIO) -> int:
    """Start the run once more, whatever came before, and leave a record or saved state."""
    code = _start(folder, interrupt, stdout)
    while code == _FEWER:
        release_memory()
        code = _start(folder, interrupt, stdout)
    return code


def _start(folder: RunFolder, interrupt: Interrupt, stdout: TextIO) -> int:
    attempt = open_attempt(folder)
    request = folder.read_request()
    monitor = WorkerMonitor(folder, attempt.number, interrupt, stdout)
    with tracked(request, folder, monitor.say) as tracking:
        monitor.listen(tracking.progress)
        outcome = _watched(folder, request, attempt, monitor)
        if isinstance(outcome, int):
            return outcome
        status = finish(folder, attempt, outcome)
        tracking.result(outcome.record.metrics)
    return DONE if status == "done" else FAILED


def _watched(
    folder: RunFolder, request: RunRequest, attempt: Attempt, monitor: WorkerMonitor
) -> ExecutedRun | int:
    """Do the run; return what is to be recorded, or the exit code of one that is not over."""
    with monitor:
        try:
            outcome = execute(request, folder, monitor)
        except StoppedError:
            close_attempt(folder, attempt, "stopped", monitor.why_stopped())
            return STOPPED
        except DeviceFullError as error:
            told = learn(folder, error)
            # A group of processes cannot go on in these: the next start of the run does.
            if told and int(os.environ.get("WORLD_SIZE", "1")) == 1:
                close_attempt(folder, attempt, "stopped", told)
                monitor.say(told)
                return _FEWER
            outcome = failed_record(request, error, monitor.phase)
        # SystemExit included: a library that exits must not pass for a finished run.
        except BaseException as error:
            traceback.print_exc()
            other = failure_of_another(folder)
            if lost_a_process(error) and other is None:
                # No failure of the run's own: it goes on when it is started again.
                close_attempt(folder, attempt, "lost", "another of its processes went away")
                return LOST
            outcome = failed_record(request, explained(error, folder), monitor.phase)
            if lost_a_process(error) and other is not None:
                outcome = ExecutedRun(replace(outcome.record, failure=other))
    if monitor.superseded:
        close_attempt(folder, attempt, "stopped", monitor.why_stopped())
        return BUSY
    return outcome


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
