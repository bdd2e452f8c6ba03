"""A process of a run other than its first: ``python -m benchmarks.work.follower FOLDER``.

Only the first process holds the lock, reports and records. The others begin when it has written
the ticket of this start, which says that the run is theirs, and end with it.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from backbones.base.errors import DeviceFullError, StoppedError, UserError
from backbones.base.files import write_json_atomically
from benchmarks.work.contract import DONE, FAILED, NO_RECORD, STOPPED, TICKET
from benchmarks.work.interrupt import Interrupt

if TYPE_CHECKING:
    from backbones.base.monitor import Progress
    from benchmarks.store.folders import RunFolder

_FILE = "ticket"
_PATIENCE_SECONDS = 600.0
# So long the first process may take to record the mistake that all of them meet.
_RECORD_SECONDS = 60.0
# How the libraries say that another process of the group went away: gloo in a RuntimeError that
# names its transport, NCCL in an error class of its own
# (https://github.com/pytorch/pytorch, torch/csrc/distributed/c10d/exception.h).
_GROUP_ERRORS = ("DistBackendError", "DistNetworkError", "DistStoreError")
_GLOO = "gloo/transport"


def main(arguments: list[str]) -> int:
    """Do this process's part of the run in the folder ``arguments[0]``.

    Returns:
        0 done, 3 it cannot be done, 4 there was no such start, 130 stopped.
    """
    interrupt = Interrupt(on_second=lambda: os._exit(STOPPED))
    interrupt.install()
    from benchmarks.store.folders import RunFolder

    return follow(RunFolder(Path(arguments[0])), interrupt)


def follow(folder: "RunFolder", interrupt: Interrupt) -> int:
    """Do this process's part, once the first process has locked the run.

    Args:
        folder: Folder of the run.
        interrupt: Whether somebody asked to stop.

    Returns:
        As ``main``.
    """
    end = time.monotonic() + _PATIENCE_SECONDS
    while not _is_ours(folder):
        if folder.is_done():
            return DONE
        if interrupt.requested:
            return STOPPED
        if time.monotonic() > end:
            return NO_RECORD
        time.sleep(0.2)
    return _take_part(folder, interrupt)


def _take_part(folder: "RunFolder", interrupt: Interrupt) -> int:
    from backbones.base.reading import note_reading_in
    from benchmarks.work.crash import explained, notes_of
    from benchmarks.work.execute import take_part
    from benchmarks.work.memory import learn
    from benchmarks.work.ranks import note_failure

    before = _written(folder.record)
    note_reading_in(notes_of(folder))
    try:
        take_part(folder.read_request(), folder, _Follower(interrupt))
    except StoppedError:
        return STOPPED
    except UserError as error:
        if isinstance(error, DeviceFullError):
            learn(folder, error)
        sys.stderr.write(f"{error}\n")
        note_failure(folder, _rank(), error)
        # The first process has met the same, and would be ended next to one that left: then nobody
        # would read why.
        end = time.monotonic() + _RECORD_SECONDS
        while _written(folder.record) == before and time.monotonic() < end:
            time.sleep(0.2)
        return FAILED
    except Exception as error:
        if not lost_a_process(error):
            note_failure(folder, _rank(), explained(error, folder))
        raise
    return DONE


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _written(path: Path) -> int:
    """Return when a file was written, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def hand_out_ticket(folder: "RunFolder") -> None:
    """Let the other processes of this start begin, if there are any."""
    if TICKET in os.environ:
        write_json_atomically(folder.path / _FILE, os.environ[TICKET])


def lost_a_process(error: BaseException) -> bool:
    """Tell whether a run of several processes broke off because another of them went away."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return False
    return type(error).__name__ in _GROUP_ERRORS or _GLOO in str(error)


def _is_ours(folder: "RunFolder") -> bool:
    try:
        found: str = json.loads((folder.path / _FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return found == os.environ[TICKET]


class _Follower:
    """The monitor of a process whose first one reports for all."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    def progress(self, progress: "Progress") -> None:
        """Leave it to the first process."""

    def say(self, text: str) -> None:
        """Leave it to the first process."""

    def should_stop(self) -> bool:
        """Tell whether this process was asked to stop; the ranks agree among themselves."""
        return self._interrupt.requested


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except Exception:
        traceback.print_exc()
        code = 1
    # Not through Python's end: threads of a broken process group may never come to theirs.
    sys.stderr.flush()
    os._exit(code)
