"""How a worker reports its progress and notices that it should stop."""

import contextlib
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from msgspec.structs import replace

from backbones.base.monitor import Progress
from backbones.base.reading import note_place
from backbones.timing.machine import machine
from benchmarks.store.folders import RunFolder
from benchmarks.store.heartbeat import INTERVAL_SECONDS, Heartbeat, write_heartbeat
from benchmarks.work.contract import FOLLOW_PARENT, STOPPED
from benchmarks.work.interrupt import Interrupt

# The phase of a heartbeat before the run has reported any progress.
_START = "start"


class WorkerMonitor:
    """Writes a run's progress to its heartbeat file and its messages to standard output.

    Args:
        folder: Folder of the run.
        attempt: Number of this start of the run, from 1.
        interrupt: Whether somebody asked to stop.
        stdout: Stream for messages to a person.
    """

    def __init__(
        self, folder: RunFolder, attempt: int, interrupt: Interrupt, stdout: TextIO
    ) -> None:
        now = time.time()
        self._folder = folder
        self._interrupt = interrupt
        self._stdout = stdout
        self._parent = int(os.environ.get(FOLLOW_PARENT, "0"))
        self._beat = Heartbeat(os.getpid(), socket.gethostname(), attempt, now, now)
        self._superseded_by = 0
        self._listener: Callable[[Progress], None] = lambda progress: None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._pulse, daemon=True)

    def __enter__(self) -> "WorkerMonitor":
        write_heartbeat(self._folder.heartbeat, self._beat)
        self._thread.start()
        machine().begin()
        return self

    def __exit__(self, *error: object) -> None:
        machine().end()
        self._end.set()
        self._thread.join()
        if self.superseded:
            return
        write_heartbeat(self._folder.heartbeat, replace(self._beat, time=time.time()))

    @property
    def phase(self) -> str:
        """What the run is doing."""
        return self._beat.phase

    def listen(self, listener: Callable[[Progress], None]) -> None:
        """Pass progress on to ``listener`` as well, which must return quickly."""
        self._listener = listener

    def progress(self, progress: Progress) -> None:
        """Keep the progress, which the heartbeat thread writes, and let other runs be timed."""
        machine().give_way(self.should_stop)
        self._listener(progress)
        note_place(f"{progress.phase} {progress.step}")
        if progress.phase != self._beat.phase:
            self._beat = replace(self._beat, phase_time=time.time(), phase_step=progress.step)
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
            self._stdout.write(text + "\n")
            self._stdout.flush()

    def should_stop(self) -> bool:
        """Return whether to save the state and leave."""
        return self._interrupt.requested

    def why_stopped(self) -> str:
        """Return who asked to stop, and where that was."""
        if self.superseded:
            return f"attempt {self._superseded_by} took over in {self.phase}"
        number = self._interrupt.signal
        by = f" by {number.name}" if number is not None else ""
        return f"asked to stop{by} in {self.phase}"

    @property
    def superseded(self) -> bool:
        """Whether a later attempt at the same run is at work, so that this one must not record.

        The lock prevents that where the file system keeps it; where a node was thought lost and
        its lock with it, the later attempt counts.
        """
        beat = self._folder.read_heartbeat()
        if beat is not None and beat.attempt > self._beat.attempt:
            self._superseded_by = beat.attempt
        return self._superseded_by > 0

    def _pulse(self) -> None:
        while not self._end.wait(INTERVAL_SECONDS):
            if self.superseded:
                self._interrupt.request()
                return
            write_heartbeat(self._folder.heartbeat, replace(self._beat, time=time.time()))
            if self._parent and not self._parent_lives():
                self._interrupt.request()
                if self._beat.phase == _START:
                    # Still building, perhaps for minutes: there is nothing to save yet.
                    os._exit(STOPPED)

    def _parent_lives(self) -> bool:
        """Return whether the launcher is there, and the process that forked this one."""
        launcher = multiprocessing.parent_process()
        return os.getppid() == self._parent and (launcher is None or launcher.is_alive())
