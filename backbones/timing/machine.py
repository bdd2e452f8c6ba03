"""Turns among the runs of a machine: all compute side by side, until one is timed alone.

Two lock files in the folder for temporary files. A run that computes shares ``busy``. A run that is
to be timed takes ``gate``; the others see that between two of their steps, let go of ``busy`` and
wait; then it takes ``busy`` for itself. The system gives up the locks of a process that ends. Runs
that cannot see each other's files (other containers, nodes, Slurm's private /tmp) do not pause for
each other, unless BACKBENCH_TURNS names a folder that they share; ``timing.conditions`` still sees
the cores that they use.
"""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

# Environment variable: folder of the lock files, for runs that do not see the same /tmp.
TURNS = "BACKBENCH_TURNS"
# A timing waits this long for other runs to pause, and a paused run this long for its end.
WAIT_SECONDS = 60.0
_PAUSE_SECONDS = 120.0
_POLL_SECONDS = 0.02


class Machine:
    """This process's part in the turns.

    Attributes:
        seconds_paused: Time that this process has waited while others were timed.
    """

    def __init__(self, folder: Path) -> None:
        """Open the lock files; where that is impossible, nothing here waits or locks.

        Args:
            folder: For ``backbench-gate.lock`` and ``backbench-busy.lock``.
        """
        self._gate = _open(folder / "backbench-gate.lock")
        self._busy = _open(folder / "backbench-busy.lock")
        self._computing = False
        self.seconds_paused = 0.0

    def begin(self) -> None:
        """Count as a run that computes, from now on."""
        self._computing = self._try(self._busy, fcntl.LOCK_SH)

    def end(self) -> None:
        """Stop counting as a run that computes."""
        self._free(self._busy)
        self._computing = False

    def give_way(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Wait between two steps while another run is timed; cheap when none is.

        Args:
            stop: Ends the wait when it returns True.
        """
        if self._computing and not self._gate_is_open():
            self.end()
            self._begin_again(stop)

    @contextlib.contextmanager
    def alone(
        self, stop: Callable[[], bool] = lambda: False, limit: float = WAIT_SECONDS
    ) -> Iterator[float | None]:
        """Compute while the other runs of the machine pause.

        Args:
            stop: Ends the wait when it returns True.
            limit: Longest wait in seconds.

        Yields:
            Seconds that it waited; None if the other runs did not pause in time.
        """
        computing, start = self._computing, time.monotonic()
        self.end()
        try:
            got = all(
                self._wait_for(lock, stop, start + limit) for lock in (self._gate, self._busy)
            )
            yield time.monotonic() - start if got else None
        finally:
            self._free(self._busy)
            self._free(self._gate)
            if computing:
                self._begin_again(stop)

    def siblings(self) -> int | None:
        """Return the number of other runs that compute now; None if unknown.

        The kernel lists who holds which lock (proc_locks(5)).
        """
        if self._busy is None:
            return None
        inode = os.fstat(self._busy).st_ino
        try:
            lines = Path("/proc/locks").read_text("utf-8").splitlines()
        except OSError:
            return None
        held = [line.split() for line in lines if " -> " not in line]
        own = str(os.getpid())
        return sum(
            fields[1] == "FLOCK" and fields[5].endswith(f":{inode}") and fields[4] != own
            for fields in held
        )

    def _begin_again(self, stop: Callable[[], bool]) -> None:
        """Count as computing again as soon as no run is timed."""
        start = time.monotonic()
        while not (self._gate_is_open() and self._try(self._busy, fcntl.LOCK_SH)):
            if stop() or time.monotonic() - start > _PAUSE_SECONDS:
                break
            time.sleep(_POLL_SECONDS)
        self._computing = True
        self.seconds_paused += time.monotonic() - start

    def _gate_is_open(self) -> bool:
        if not self._try(self._gate, fcntl.LOCK_SH):
            return False
        self._free(self._gate)
        return True

    def _wait_for(self, lock: int | None, stop: Callable[[], bool], until: float) -> bool:
        while not self._try(lock, fcntl.LOCK_EX):
            if stop() or time.monotonic() > until:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    @staticmethod
    def _try(lock: int | None, kind: int) -> bool:
        """Take a lock if that is possible at once; a missing lock stands in nobody's way."""
        if lock is None:
            return True
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # the file system has no such locks
            return True
        return True

    @staticmethod
    def _free(lock: int | None) -> None:
        if lock is not None:
            fcntl.flock(lock, fcntl.LOCK_UN)


@cache
def machine() -> Machine:
    """Return this process's part in the turns of its machine."""
    return Machine(Path(os.environ.get(TURNS) or tempfile.gettempdir()))


def _open(path: Path) -> int | None:
    """Return a file that all users of the machine can lock; None where there can be none."""
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_CREAT):
        # A sticky folder refuses O_CREAT on the file of another user, so it comes second.
        with contextlib.suppress(OSError):
            return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    return None
