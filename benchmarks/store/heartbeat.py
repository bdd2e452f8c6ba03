"""Where a run stands, as a file that its worker rewrites; anybody may look."""

import contextlib
import math
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from backbones.base.json_files import JsonFormat, UnreadableFileError
from backbones.base.leftovers import SUFFIX, prefix_of

INTERVAL_SECONDS = 1.0
# A worker that did not write for this long is stuck, or its node is gone.
STALLED_AFTER_SECONDS = 180.0

# Linux counts processes up to 2^22 (kernel/pid.h), and os.kill takes a C int.
_Pid = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Number = Annotated[int, Meta(ge=0)]


class Heartbeat(Struct, frozen=True, forbid_unknown_fields=True):
    """One look at a worker.

    Attributes:
        pid: Of the worker.
        host: Where it runs.
        attempt: Which start of the run this is.
        started: Unix time of this start.
        time: Unix time of this look.
        phase: What it is doing.
        step: Steps or images done in this phase.
        num_steps: Of how many.
        images_per_second: 0 while unknown.
        losses: Named losses, if any.
        lr: Learning rate, if any.
        phase_time: Unix time at which this attempt was first seen in this phase.
        phase_step: How far the phase was then.
    """

    pid: _Pid
    host: str
    attempt: _Number
    started: float
    time: float
    phase: str = "start"
    step: _Number = 0
    num_steps: _Number = 0
    images_per_second: float = 0.0
    losses: Mapping[str, float] = field(default_factory=dict[str, float])
    lr: float | None = None
    phase_time: float = 0.0
    phase_step: _Number = 0

    @property
    def alive(self) -> bool:
        """Whether the worker still lives, as far as can be told from here."""
        if self.host == socket.gethostname():
            return _exists(self.pid)
        return time.time() - self.time < STALLED_AFTER_SECONDS

    @property
    def stalled(self) -> bool:
        """Whether the worker has been silent for too long."""
        return time.time() - self.time > STALLED_AFTER_SECONDS

    @property
    def seconds_left(self) -> float | None:
        """Time that this phase still takes at its mean rate so far; None while unknown."""
        steps, seconds = self.step - self.phase_step, self.time - self.phase_time
        if steps <= 0 or seconds <= 0:
            return None
        return (self.num_steps - self.step) * seconds / steps


HEARTBEAT = JsonFormat(Heartbeat, "heartbeat", one_line=True)


def write_heartbeat(path: Path, beat: Heartbeat) -> None:
    """Rewrite the file; a failure is ignored, because nothing depends on it.

    Not flushed to the disk, unlike everything that must survive: it is worthless after a crash.
    """
    part = path.with_name(f"{prefix_of(path.name)}beat{SUFFIX}")
    # JSON has no NaN, and a loss that is one is told elsewhere.
    losses = {name: value for name, value in beat.losses.items() if math.isfinite(value)}
    with contextlib.suppress(OSError, ValueError):
        part.write_bytes(HEARTBEAT.text(replace(beat, losses=losses)))
        part.replace(path)


def read_heartbeat(path: Path) -> Heartbeat | None:
    """Return what the file says, None when it is absent or unreadable."""
    try:
        return HEARTBEAT.read(path)
    except UnreadableFileError:
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
