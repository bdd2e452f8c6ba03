"""Fork workers from a process in which libraries are loaded already.

torch, torchvision and timm take longer to load than many a run on small data takes; with
``multiprocessing``'s fork server that is done once for all runs of a command. The server ends by
itself when the launcher and all workers have ended, however they end.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import IO

from benchmarks.local import preload
from benchmarks.local.forked import run_worker
from benchmarks.work.interrupt import SIGNALS


class ForkedWorker:
    """A worker that was forked; it can be asked the same as a ``subprocess.Popen``.

    Args:
        process: The started process.
        stdout: Its standard output.
    """

    def __init__(self, process: ForkServerProcess, stdout: IO[str]) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self.stdout = stdout
        self._process = process

    def terminate(self) -> None:
        """Send SIGTERM, which waits until the worker has installed its handlers."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def wait(self, timeout: float) -> None:
        """Wait until the worker ends, at most ``timeout`` seconds."""
        self._process.join(timeout)

    def poll(self) -> int | None:
        """Return the exit code: None while the worker lives, 255 where the server was killed."""
        return self._process.exitcode


class ForkServer:
    """Starts workers from one process that has the libraries loaded.

    Args:
        libraries: Names of the modules to load before the first fork.
    """

    # multiprocessing has one server in a process, with the environment of its first start, which
    # libraries read when they are loaded.
    _environment: Mapping[str, str] | None = None

    def __init__(self, libraries: Sequence[str]) -> None:
        self._libraries = ",".join(libraries)
        self._died = False

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> ForkedWorker | None:
        """Return a new worker; the first one waits until the libraries are loaded.

        Args:
            arguments: Arguments of ``benchmarks.work.worker``.
            environment: All environment variables.
            log: File that its standard error is appended to.

        Returns:
            The worker, or None where it has to be started in another way: the server died, or was
            started with another environment.
        """
        ForkServer._environment = ForkServer._environment or dict(environment)
        if self._died or ForkServer._environment != environment:
            return None
        reader, writer = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=run_worker, args=(arguments, environment, writer, log))
        with reader, writer:
            try:
                with _module_path(environment):
                    self._ensure_running(environment)
                    process.start()
            except (OSError, EOFError):
                self._died = True
                return None
            return ForkedWorker(process, os.fdopen(os.dup(reader.fileno()), errors="replace"))

    def _ensure_running(self, environment: Mapping[str, str]) -> None:
        # Before signals are held back: in Python 3.11, its start lets them through again.
        resource_tracker.ensure_running()
        forkserver.set_forkserver_preload([preload.__name__])
        # As with `python -P`, a file in the user's folder must not pass for a module.
        own = {**environment, preload.PRELOAD: self._libraries, "PYTHONSAFEPATH": "1"}
        with held_back(), _environment(own):
            forkserver.ensure_running()


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


@contextlib.contextmanager
def _environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Give processes that are started inside an environment."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _module_path(environment: Mapping[str, str]) -> Iterator[None]:
    """Give ``multiprocessing`` the module path of workers, and no main module for them to import.

    They search the folders of PYTHONPATH, then the launcher's, less the folder of its script.
    """
    path, main = sys.path.copy(), sys.modules["__main__"]
    first = environment.get("PYTHONPATH", "").split(os.pathsep)
    rest = path if sys.flags.safe_path else path[1:]
    sys.path[:] = dict.fromkeys(folder for folder in (*first, *rest) if folder)
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.path[:], sys.modules["__main__"] = path, main
