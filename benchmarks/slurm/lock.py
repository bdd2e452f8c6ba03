"""One submission into a folder of runs at a time, whichever node it comes from.

Between the question what is in the queue and the answer of sbatch, a second submission would put
the same runs into the queue once more.
"""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout
from msgspec import Struct

from backbones.base.errors import PreflightError
from backbones.base.files import cannot_write
from backbones.base.json_files import JsonFormat, UnreadableFileError
from benchmarks import output
from benchmarks.slurm.submission import FOLDER

_LOCK = "lock"
_HOLDER = "lock.json"
# The person is told whom the command waits for after the first time, and it gives up after the
# second. Submitting a thousand runs takes a quarter of a minute.
_QUIET_SECONDS, _PATIENCE_SECONDS = 2.0, 300.0
# What a file system without flock says, next to ENOSYS, which filelock itself answers in the same
# way: a file that exists is the lock.
_NO_FLOCK = (errno.ENOLCK, errno.EOPNOTSUPP)


class _Holder(Struct, frozen=True, forbid_unknown_fields=True):
    """The process that submits.

    Attributes:
        pid: Its number.
        host: Name of its machine.
        since: Unix time at which it got the lock.
    """

    pid: int
    host: str
    since: float


_FORMAT = JsonFormat(_Holder, "note of a submission")


@contextmanager
def submitting(root: Path) -> Iterator[None]:
    """Keep other submissions out of a folder of runs, after waiting for the one at work.

    flock works between nodes on local disks, NFS 4 and Lustre with ``flock``, and the kernel ends
    the lock of a process that dies.

    Args:
        root: The folder of runs.

    Raises:
        PreflightError: Another submission does not end, or the folder cannot be written.
    """
    folder = root / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquire(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        _FORMAT.write(folder / _HOLDER, _Holder(os.getpid(), socket.gethostname(), time.time()))
        yield
    finally:
        with suppress(OSError):
            (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()


def _acquire(folder: Path) -> BaseFileLock:
    lock: BaseFileLock = FileLock(folder / _LOCK)
    try:
        return _wait_for(lock, folder)
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
    return _wait_for(SoftFileLock(folder / f"{_LOCK}.soft"), folder)


def _wait_for(lock: BaseFileLock, folder: Path) -> BaseFileLock:
    try:
        lock.acquire(timeout=_QUIET_SECONDS)
    except Timeout:
        output.note(f"Waiting for {_holder(folder)}, which submits runs of {folder.parent}.")
        _wait_longer(lock, folder)
    return lock


def _wait_longer(lock: BaseFileLock, folder: Path) -> None:
    try:
        lock.acquire(timeout=_PATIENCE_SECONDS)
    except Timeout as error:
        raise PreflightError(
            f"{lock.lock_file} has been held by {_holder(folder)} for more than "
            f"{_PATIENCE_SECONDS:.0f} s. Wait until it has submitted its runs, or end it; if it "
            "does not exist any more, delete the file."
        ) from error


def _holder(folder: Path) -> str:
    """Return who holds the lock, in words."""
    try:
        holder = _FORMAT.read(folder / _HOLDER)
    except UnreadableFileError:
        return "another process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.since))
    return f"process {holder.pid} on {output.clean(holder.host)} (since {since})"
