"""One run as a worker process of this machine: started, listened to, stopped. Imports no torch.

Each run gets a process of its own, because allocator and thread settings have to be there before
a process starts, and because a crash then costs one run. The worker has a session of its own, so
that Ctrl-C at the terminal reaches this process alone, which passes it on exactly once.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO

from backbones.errors import PreflightError
from benchmarks.sweep import worker
from benchmarks.sweep.executor import Ended
from benchmarks.sweep.heartbeat import Heartbeat
from benchmarks.sweep.interrupt import EXIT_CODE as STOPPED
from benchmarks.sweep.interrupt import SIGNALS
from benchmarks.sweep.monitor import FOLLOW_PARENT
from benchmarks.sweep.plan import Cell
from benchmarks.sweep.record import BadRecordError
from benchmarks.sweep.store import RunFolder

# Behind its worker's end, how long to wait for lines it had already written.
_LAST_WORDS_SECONDS = 2.0


class WorkerProcess:
    """A worker at work on one run.

    Args:
        cell: The run.
        folder: Of the run, with its request written.
        fresh: Drop what earlier attempts left.
        environment: Of the process.
    """

    def __init__(
        self, cell: Cell, folder: RunFolder, fresh: bool, environment: Mapping[str, str]
    ) -> None:
        self.cell = cell
        self._folder = folder
        self._lines: queue.Queue[str] = queue.Queue()
        self._last = ""
        self._told = False
        with folder.log.open("a") as log:
            self._process = _start(folder, log, fresh, environment)
        assert self._process.stdout is not None
        self._listener = threading.Thread(
            target=_collect, args=(self._process.stdout, self._lines), daemon=True
        )
        self._listener.start()

    def stop(self) -> bool:
        """Ask the worker to save its state and leave; return False if it has been asked before."""
        if self._told:
            return False
        self._told = True
        self._process.terminate()
        return True

    def kill(self) -> None:
        """End the worker and everything it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def words(self) -> list[str]:
        """Return what the worker said since the last call."""
        found = []
        while not self._lines.empty():
            found.append(self._lines.get())
        if found:
            self._last = found[-1]
        return found

    def heartbeat(self) -> Heartbeat | None:
        """Return where the run stands, None before its first sign of life."""
        beat = self._folder.read_heartbeat()
        return beat if beat is not None and beat.pid == self._process.pid else None

    def wait(self, seconds: float) -> None:
        """Wait until the worker ends, at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def poll(self) -> int | None:
        """Return the exit code, None while the worker lives."""
        code = self._process.poll()
        if code is not None:
            self._listener.join(_LAST_WORDS_SECONDS)
        return code

    def ended(self, code: int) -> Ended:
        """Return what became of the run, all words having been read.

        Args:
            code: The exit code; the record, where there is one, rules.
        """
        cell, last = self.cell, self._last
        if code == STOPPED:
            return Ended(cell, "stopped")
        if code == worker.BUSY:
            return Ended(cell, "busy", last)
        if code == worker.BLOCKED:
            return Ended(cell, "blocked", last)
        if code == worker.NO_RECORD:
            return Ended(cell, "lost", last, exit_code=PreflightError.exit_code)
        if code in (worker.DONE, worker.FAILED):
            return self._recorded(code)
        return Ended(cell, "lost", _vanished(code, self._folder))

    def _recorded(self, code: int) -> Ended:
        try:
            record = self._folder.read_record()
        except BadRecordError as error:
            return Ended(self.cell, "lost", f"its record is damaged: {error}")
        if record is None:
            return Ended(self.cell, "lost", _vanished(code, self._folder))
        failure = record.failure
        if failure is None:
            return Ended(self.cell, "done", record=record)
        return Ended(self.cell, "failed", failure.message, record, failure.exit_code)


def worker_command(folder: RunFolder, fresh: bool) -> list[str]:
    """Return the command that does a run, the same one wherever it runs."""
    # -P: a file in the user's working folder must not pass for a module of ours.
    command = [sys.executable, "-P", "-m", "benchmarks.sweep.worker", str(folder.path)]
    return command + ([worker.FRESH] if fresh else [])


def _start(
    folder: RunFolder, log: IO[str], fresh: bool, environment: Mapping[str, str]
) -> subprocess.Popen[str]:
    # Held back until the worker has installed its handlers: a signal in its first second would
    # otherwise end it with a trace.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return subprocess.Popen(
            worker_command(folder, fresh),
            env={**environment, FOLLOW_PARENT: "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _collect(stream: IO[str], lines: "queue.Queue[str]") -> None:
    for text in stream:
        lines.put(text.rstrip("\n"))


def _vanished(code: int, folder: RunFolder) -> str:
    if code == -signal.SIGKILL:
        how = "was killed, perhaps because memory ran out"
    elif code < 0:
        how = f"was ended by signal {-code} ({signal.Signals(-code).name})"
    else:
        how = f"ended with code {code}"
    return f"its process {how}; the same command goes on from its last saved state ({folder.log})"
