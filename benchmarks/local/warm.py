"""A process that has loaded libraries and forks workers: ``python -m benchmarks.local.warm FD``.

torch, torchvision and timm take longer to load than many a run on small data takes; here that is
done once for the runs of a command. Code of ours is loaded by every run anew, so that a record
names the code that ran. Nothing is computed here, since thread pools and devices do not survive a
fork. FD is a socket to the launcher, which ``benchmarks.local.warm_start`` holds.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.work.contract import FOLLOW_PARENT

if TYPE_CHECKING:
    from benchmarks.local.warm_start import Order

_ORDER_BYTES = 65536


def main(arguments: list[str]) -> int:
    """Fork a worker for every order of the launcher, one after the other, until it hangs up.

    Returns:
        0; in a worker, what ``benchmarks.work.worker`` returns.
    """
    launcher = socket.socket(fileno=int(arguments[0]))
    ended = _wake_at_end_of_child()
    while True:
        order, files = _receive(launcher)
        if order is None:
            return 0
        _load(order["libraries"])
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            launcher.close()
            ended.close()
            _separate(parent, *files)
            # Only now: a run loads the code as it is when the run begins.
            from benchmarks.work import worker

            return worker.main(order["arguments"])
        for file in files:
            os.close(file)
        _reply(launcher, pid)
        code = _wait(pid, launcher, ended)
        if code is None:
            return 0
        _reply(launcher, code)


def _receive(launcher: socket.socket) -> "tuple[Order | None, list[int]]":
    """Return an order with the files for the worker's words and log; None once there is none."""
    text, files, _, _ = socket.recv_fds(launcher, _ORDER_BYTES, 2)
    while text and not text.endswith(b"\n"):
        text += launcher.recv(_ORDER_BYTES)
    return (json.loads(text) if text else None), files


def _load(libraries: Sequence[str]) -> None:
    new = [library for library in libraries if library not in sys.modules]
    for library in new:
        # What cannot be loaded fails again in the run, which has a log and a record to say so.
        with contextlib.suppress(Exception):
            importlib.import_module(library)
    if new:
        # Workers neither visit these objects to collect garbage nor copy their pages for it.
        gc.collect()
        gc.freeze()


def _separate(parent: int, words: int, log: int) -> None:
    """Make a forked process what one started by the launcher itself would be."""
    os.setsid()
    os.dup2(words, 1)
    os.dup2(log, 2)
    os.close(words)
    os.close(log)
    os.environ[FOLLOW_PARENT] = str(parent)
    os.close(signal.set_wakeup_fd(-1))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _wake_at_end_of_child() -> socket.socket:
    """Return a socket that can be read from once a child has ended."""
    ended, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return ended


def _wait(pid: int, launcher: socket.socket, ended: socket.socket) -> int | None:
    """Return the exit code of a worker, None where the launcher hangs up before."""
    while True:
        ready, _, _ = select.select([launcher, ended], [], [])
        if launcher in ready:
            return None
        ended.recv(_ORDER_BYTES)
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)


def _reply(launcher: socket.socket, number: int) -> None:
    # A launcher that is gone is noticed by whoever reads next.
    with contextlib.suppress(OSError):
        launcher.sendall(b"%d\n" % number)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
