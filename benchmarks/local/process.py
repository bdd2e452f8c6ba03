"""One run as worker processes of this machine: started, listened to, stopped.

Each run gets a process of its own, because a crash then costs one run; it, or the one it is forked
from, starts with the allocator and thread settings of its environment. The worker has a session of
its own, so that Ctrl-C at the terminal reaches only this process, which passes it on exactly once.
A run of several processes has one that leads, the worker, and others that follow it.
"""

import contextlib
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from backbones.base.errors import PreflightError
from benchmarks.local.fork import ForkedWorker, ForkServer, held_back
from benchmarks.plan.plan import Cell
from benchmarks.store.folders import RunFolder
from benchmarks.store.heartbeat import Heartbeat
from benchmarks.store.record_file import BadRecordError
from benchmarks.work.attempts import record_failure
from benchmarks.work.contract import (
    BLOCKED,
    BUSY,
    DONE,
    FAILED,
    FOLLOW_PARENT,
    FRESH,
    NO_RECORD,
    STOPPED,
    TICKET,
)
from benchmarks.work.crash import CRASHES, note_crash
from benchmarks.work.outcome import Ended
from benchmarks.work.ranks import failure_of_another

# -P: a file in the user's working folder must not pass for a module of ours.
_WORKER = (sys.executable, "-P", "-m", "benchmarks.work.worker")
# How long to wait, after a worker's end, for lines that it had written before.
_LAST_LINES_SECONDS = 2.0
# How long the other processes of a run may take to end, once one has ended.
_SIBLING_SECONDS = 5.0


class WorkerProcess:
    """A worker at work on one run, and the processes that follow it.

    Args:
        cell: The run.
        folder: Folder of the run, which contains its request.
        fresh: Delete what earlier attempts left.
        environment: Environment variables of its processes.
        processes: Number of processes that do the run together.
        server: Forks the worker; None starts a new Python.
    """

    def __init__(
        self,
        cell: Cell,
        folder: RunFolder,
        fresh: bool,
        environment: Mapping[str, str],
        processes: int = 1,
        server: ForkServer | None = None,
    ) -> None:
        self.cell = cell
        self._folder = folder
        self._lines: queue.Queue[str] = queue.Queue()
        self._last = ""
        self._asked_to_stop = False
        self._lost = ""
        self._first_end: float | None = None
        ranks = [{**environment, **group} for group in _groups(processes)]
        self._process = _lead(_arguments(folder, fresh), folder.log, ranks[0], server)
        self._followers = [_follow(folder, rank, ranks[rank]) for rank in range(1, processes)]
        assert self._process.stdout is not None
        self._listener = threading.Thread(
            target=_collect, args=(self._process.stdout, self._lines), daemon=True
        )
        self._listener.start()

    def stop(self) -> bool:
        """Ask the worker to save its state and leave; return False if it was asked before."""
        if self._asked_to_stop:
            return False
        self._asked_to_stop = True
        for process in (self._process, *self._followers):
            process.terminate()
        return True

    def kill(self) -> None:
        """End the worker and everything it started, at once."""
        for process in (self._process, *self._followers):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # A worker that was forked just now leads no group yet.
            process.kill()

    def lines(self) -> list[str]:
        """Return the lines that the worker printed since the last call."""
        found = []
        while not self._lines.empty():
            found.append(self._lines.get())
        if found:
            self._last = found[-1]
        return found

    def heartbeat(self) -> Heartbeat | None:
        """Return the newest heartbeat, None before the first."""
        beat = self._folder.read_heartbeat()
        return beat if beat is not None and beat.pid == self._process.pid else None

    def wait(self, seconds: float) -> None:
        """Wait until the worker ends, at most ``seconds``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def poll(self) -> int | None:
        """Return the worker's exit code, None while any process of the run lives."""
        code = self._process.poll()
        self._end_siblings(code)
        if any(follower.poll() is None for follower in self._followers):
            return None
        if code is not None:
            self._listener.join(_LAST_LINES_SECONDS)
        return code

    def _end_siblings(self, code: int | None) -> None:
        """End the other processes after one has ended: they would wait for it, perhaps forever.

        A follower that did its part ends no other.
        """
        broken = [(rank, follower.returncode) for rank, follower in enumerate(self._followers, 1)
                  if follower.poll()]  # fmt: skip
        if code is None and broken and broken[0][1] != STOPPED:
            rank, end = broken[0]
            self._lost = f"its process {rank} {_how(end)}; see log-{rank}.txt next to its log"
        if code is None and not broken:
            return
        now = time.monotonic()
        self._first_end = self._first_end or now
        if now - self._first_end > _SIBLING_SECONDS:
            self.kill()

    def ended(self, code: int) -> Ended:
        """Return the outcome of the run; call it after the last ``lines``.

        Args:
            code: The exit code; the record, where there is one, rules.
        """
        cell, last = self.cell, self._last
        if code == STOPPED:
            return Ended(cell, "stopped")
        if code == BUSY:
            return Ended(cell, "busy", last)
        if code == BLOCKED:
            return Ended(cell, "blocked", last)
        if code == NO_RECORD:
            return Ended(cell, "lost", last, exit_code=PreflightError.exit_code)
        if code in (DONE, FAILED):
            return self._recorded(code)
        return self._vanished(code)

    def _vanished(self, code: int) -> Ended:
        """Return the outcome of a run whose first process left no record, and record a failure."""
        told = failure_of_another(self._folder) if self._followers else None
        if told is not None and not self._asked_to_stop:
            record_failure(self._folder, told)
            return self._recorded(FAILED)
        what = self._lost or f"its process {_how(code)}"
        number = self._crash(code)
        if number:
            where, ended = note_crash(self._folder, number)
            if ended:
                return self._recorded(FAILED)
            what += f" {where}"
        return Ended(self.cell, "lost", f"{what}; {_goes_on(self._folder)}")

    def _crash(self, code: int) -> int:
        """Return the signal with which a native library ended a process of the run; 0 if none."""
        codes = [code, *(follower.returncode for follower in self._followers)]
        return next((-one for one in codes if one is not None and -one in CRASHES), 0)

    def _recorded(self, code: int) -> Ended:
        try:
            record = self._folder.read_record()
        except BadRecordError as error:
            return Ended(self.cell, "lost", f"its record is damaged: {error}")
        if record is None:
            return Ended(self.cell, "lost", f"its process {_how(code)}; {_goes_on(self._folder)}")
        failure = record.failure
        if failure is None:
            return Ended(self.cell, "done", record=record)
        return Ended(self.cell, "failed", failure.message, record, failure.exit_code)


def _arguments(folder: RunFolder, fresh: bool) -> list[str]:
    """Return the arguments of the worker."""
    return [str(folder.path), *([FRESH] if fresh else [])]


def _groups(processes: int) -> list[dict[str, str]]:
    """Return the environment variables of each process that describe its process group."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        TICKET: secrets.token_hex(8),
    }
    return [{**shared, "RANK": str(n), "LOCAL_RANK": str(n)} for n in range(processes)]


def _lead(
    arguments: list[str], log: Path, environment: Mapping[str, str], server: ForkServer | None
) -> "subprocess.Popen[str] | ForkedWorker":
    """Start the worker, forked where there is a server that can do it."""
    forked = server.start(arguments, environment, log) if server is not None else None
    if forked is not None:
        return forked
    with log.open("a") as file:
        return _start([*_WORKER, *arguments], file, environment)


def _follow(
    folder: RunFolder, rank: int, environment: Mapping[str, str]
) -> "subprocess.Popen[str]":
    command = [sys.executable, "-P", "-m", "benchmarks.work.follower", str(folder.path)]
    with (folder.path / f"log-{rank}.txt").open("a") as log:
        return _start(command, log, environment, stdout=log)


def _start(
    command: list[str],
    log: IO[str],
    environment: Mapping[str, str],
    stdout: IO[str] | int = subprocess.PIPE,
) -> "subprocess.Popen[str]":
    with held_back():
        return subprocess.Popen(
            command,
            env={**environment, FOLLOW_PARENT: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=log,
            text=True,
            errors="replace",
            start_new_session=True,
        )


def _collect(stream: IO[str], lines: "queue.Queue[str]") -> None:
    with stream:
        for text in stream:
            lines.put(text.rstrip("\n"))


def _how(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed, perhaps because memory ran out"
    if code < 0:
        return f"was ended by signal {-code} ({signal.Signals(-code).name})"
    return f"ended with code {code}"


def _goes_on(folder: RunFolder) -> str:
    return f"the same command goes on from its last saved state ({folder.log})"
