"""Start workers and wait for them. Imports no torch.

Each run gets a process of its own, because allocator and thread settings have to be there before
a process starts, and because a crash then costs one run. The worker has a session of its own, so
that Ctrl-C at the terminal reaches this process alone, which passes it on exactly once.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Literal

from backbones.errors import PreflightError
from benchmarks.sweep import worker
from benchmarks.sweep.environment import worker_environment
from benchmarks.sweep.interrupt import EXIT_CODE as STOPPED
from benchmarks.sweep.interrupt import SIGNALS, Interrupt
from benchmarks.sweep.plan import Cell
from benchmarks.sweep.record import BadRecordError, RunRecord
from benchmarks.sweep.store import RunFolder, Store
from benchmarks.sweep.terminal import Screen, duration

_REFRESH_SECONDS = 0.25
End = Literal["done", "failed", "stopped", "busy", "lost"]


@dataclass(frozen=True)
class Ended:
    """How one run of the plan ended.

    Attributes:
        cell: The run.
        end: "lost" is a process that vanished; its saved state is gone on from.
        message: Why, where it is not done.
        record: The outcome, if one was written.
        exit_code: What the command would end with if this were its only run.
    """

    cell: Cell
    end: End
    message: str = ""
    record: RunRecord | None = None
    exit_code: int = worker.FAILED


class InlineExecutor:
    """One run after the other on this machine.

    Args:
        store: Where runs live.
        screen: To show progress on.
        fresh: Drop what earlier attempts left.
    """

    def __init__(self, store: Store, screen: Screen, fresh: bool) -> None:
        self._store = store
        self._screen = screen
        self._fresh = fresh
        self._process: subprocess.Popen[str] | None = None
        self._interrupt = Interrupt(self._end_at_once)

    def run(self, cells: Sequence[Cell]) -> Iterator[Ended]:
        """Do the runs in order, and yield each as it ends; a failing one leaves the others going.

        Ends early, with a last ``stopped``, when somebody asks to stop.
        """
        self._interrupt.install()
        for number, cell in enumerate(cells, 1):
            if self._interrupt.requested:
                return
            self._screen.begin(f"[{number}/{len(cells)}] {_name(cell, cells)}")
            ended = self._one(cell)
            self._screen.end(_last_line(ended))
            yield ended

    def _one(self, cell: Cell) -> Ended:
        folder = self._store.prepare(cell.request)
        words: list[str] = []
        with folder.log.open("a") as log:
            self._process = _start(folder, log, self._fresh)
            try:
                code = self._wait(self._process, folder, words)
            finally:
                self._process = None
        return _ended(cell, folder, code, words)

    def _wait(self, process: subprocess.Popen[str], folder: RunFolder, words: list[str]) -> int:
        assert process.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_collect, args=(process.stdout, lines), daemon=True).start()
        passed_on = False
        while True:
            if self._interrupt.requested and not passed_on:
                passed_on = True
                self._screen.say("Stopping once the state is saved; Ctrl-C again ends at once.")
                process.terminate()
            code = _poll(process)
            while not lines.empty():
                words.append(lines.get())
                self._screen.say(words[-1])
            beat = folder.read_heartbeat()
            if beat is not None and beat.pid == process.pid:
                self._screen.show(beat)
            if code is not None:
                return code

    def _end_at_once(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
        raise KeyboardInterrupt


def _name(cell: Cell, cells: Sequence[Cell]) -> str:
    """Return what tells a run from the others of its plan."""
    several = len({other.request.spec.seed for other in cells}) > 1
    seed = f" seed {cell.request.spec.seed}" if several else ""
    tasks = len({other.request.spec.task for other in cells}) > 1
    task = f"{cell.request.spec.task} " if tasks else ""
    return f"{task}{cell.request.entry}{seed}"


def _start(folder: RunFolder, log: IO[str], fresh: bool) -> subprocess.Popen[str]:
    # -P: a file in the user's working folder must not pass for a module of ours.
    command = [sys.executable, "-P", "-m", "benchmarks.sweep.worker", str(folder.path)]
    environment = worker_environment({**os.environ, worker.FOLLOW_PARENT: "1"})
    # Held back until the worker has installed its handlers: a signal in its first second would
    # otherwise end it with a trace.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return subprocess.Popen(
            command + ([worker.FRESH] if fresh else []),
            env=environment,
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


def _poll(process: subprocess.Popen[str]) -> int | None:
    try:
        return process.wait(_REFRESH_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _ended(cell: Cell, folder: RunFolder, code: int, words: list[str]) -> Ended:
    last = words[-1] if words else ""
    if code == STOPPED:
        return Ended(cell, "stopped")
    if code == worker.BUSY:
        return Ended(cell, "busy", last)
    if code in (worker.DONE, worker.FAILED):
        try:
            record = folder.read_record()
        except BadRecordError as error:
            return Ended(cell, "lost", f"its record is damaged: {error}")
        if record is not None:
            failure = record.failure
            if failure is None:
                return Ended(cell, "done", record=record)
            return Ended(cell, "failed", failure.message, record, failure.exit_code)
    if code == worker.NO_RECORD:
        return Ended(cell, "lost", last, exit_code=PreflightError.exit_code)
    return Ended(cell, "lost", _vanished(code, folder))


def _vanished(code: int, folder: RunFolder) -> str:
    if code == -signal.SIGKILL:
        how = "was killed, perhaps because memory ran out"
    elif code < 0:
        how = f"was ended by signal {-code} ({signal.Signals(-code).name})"
    else:
        how = f"ended with code {code}"
    return f"its process {how}; the same command goes on from its last saved state ({folder.log})"


def _last_line(ended: Ended) -> str:
    if ended.end == "stopped":
        return "stopped, state saved"
    if ended.end == "busy":
        return "skipped"
    if ended.record is None or ended.end == "failed":
        return f"failed: {ended.message}"
    record = ended.record
    value = record.value(record.headline)
    shown = f"{record.headline} {value:.1f}" if value is not None else "done"
    seconds = record.cost.get("seconds")
    took = f"  {duration(seconds)}" if seconds else ""
    return f"{shown}{took}  record {record.run_id}"
