"""Workers that are forked from a process in which libraries are loaded already.

The launcher's end of ``benchmarks.local.warm``. What is started so looks like a process started
by ``subprocess.Popen`` to whoever waits for it.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TypedDict

from benchmarks.work.interrupt import SIGNALS

_REPLY_BYTES = 4096


class Order(TypedDict):
    """What a warm process is asked for.

    Attributes:
        libraries: To be loaded before the fork.
        arguments: Of ``benchmarks.work.worker``.
    """

    libraries: Sequence[str]
    arguments: list[str]


class WarmStart:
    """A process that forks one worker at a time.

    Args:
        environment: Of it and of all its workers.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs, held_back():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "benchmarks.local.warm", str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def start(self, order: Order, log: IO[str]) -> "WarmChild":
        """Return a new worker; the one before has ended.

        Args:
            order: What it shall do.
            log: Where its standard error goes.
        """
        ours, theirs = os.pipe()
        try:
            # Where nobody listens any more, the worker is seen to have ended.
            with contextlib.suppress(OSError):
                text = json.dumps(order).encode() + b"\n"
                socket.send_fds(self._socket, [text], [theirs, log.fileno()])
        finally:
            os.close(theirs)
        return WarmChild(self._process, self._socket, os.fdopen(ours, errors="replace"))

    def lives(self) -> bool:
        """Tell whether it can start another worker."""
        return self._process.poll() is None

    def close(self) -> None:
        """Have it end; a worker that is at work saves and leaves."""
        self._socket.close()
        self._process.wait()


class WarmChild:
    """A worker that a warm process forked, or is about to fork.

    Args:
        parent: The warm process.
        replies: Where it tells the worker's id and, later, its exit code.
        stdout: What the worker says.
    """

    def __init__(
        self, parent: "subprocess.Popen[bytes]", replies: socket.socket, stdout: IO[str]
    ) -> None:
        self.stdout = stdout
        self._parent = parent
        self._replies = replies
        self._text = b""
        self._told = False
        self._code: int | None = None

    @property
    def pid(self) -> int:
        """Its id, and its parent's as long as it is not forked; either leads a process group."""
        numbers = self._numbers()
        return numbers[0] if numbers else self._parent.pid

    def terminate(self) -> None:
        """Ask it to stop, once it is there."""
        self._told = True
        self._tell()

    def wait(self, timeout: float) -> None:
        """Wait until it ends, at most so many seconds."""
        if self._code is not None or not select.select([self._replies], [], [], timeout)[0]:
            return
        forked = bool(self._numbers())
        text = self._replies.recv(_REPLY_BYTES)
        self._text += text
        numbers = self._numbers()
        if len(numbers) == 2:
            self._code = numbers[1]
        elif not text:
            # The worker, if there is one, notices that its parent is gone, saves and leaves.
            self._code = self._parent.wait()
        elif self._told and not forked:
            self._tell()

    def poll(self) -> int | None:
        """Return its exit code as ``Popen.poll`` does, None while it lives."""
        self.wait(0.0)
        return self._code

    def _tell(self) -> None:
        if self._numbers() and self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def _numbers(self) -> list[int]:
        return [int(line) for line in self._text.split(b"\n")[:-1]]


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Start processes inside that keep signals until they have installed their handlers.

    A signal in a worker's first second would otherwise end it with a trace.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
