"""Temporary files whose writer was killed: named so that another process can tell, and removed.

The name of a temporary file says which process writes it: ``.NAME.WHERE-PID.RANDOM.part``. WHERE
stands for the machine since its last start and for the process's namespace, so that a process
number is only looked up where it means the same process.
"""

import hashlib
import os
import re
import shutil
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

SUFFIX = ".part"
_LEFTOVER = re.compile(r"\..*\.([0-9a-f]{8})-([0-9]+)\.[^.]+\.part", re.DOTALL)
# A writer on another machine cannot be asked. No single file takes a day to write.
_STALE_SECONDS = 86400.0


def prefix_of(name: str) -> str:
    """Return how the temporary name for a file starts when this process writes it.

    Args:
        name: Final name.
    """
    return f".{name}.{this_machine()}-{os.getpid()}."


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders in ``folder`` whose writer is gone.

    A writer on this machine is gone when its process is. One on another machine counts as gone when
    it has not written for a day. What cannot be removed stays.

    Args:
        folder: Searched without its subfolders; need not exist.
    """
    with suppress(OSError):
        for entry in os.scandir(folder):
            found = _LEFTOVER.fullmatch(entry.name)
            if found and _gone(found[1], int(found[2]), entry):
                _remove(Path(entry.path))


def remove_all_leftovers(folder: Path) -> None:
    """Remove leftovers as ``remove_leftovers`` does, in a folder and all its subfolders."""
    for inner, _, _ in os.walk(folder):
        remove_leftovers(Path(inner))


def _gone(where: str, pid: int, entry: "os.DirEntry[str]") -> bool:
    if where != this_machine():
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_SECONDS
    return is_gone(pid)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


def is_gone(pid: int) -> bool:
    """Tell whether no process of this machine has a number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


@cache
def this_machine() -> str:
    """Return 8 hex digits for the machine, its last start and the namespace of process numbers."""
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text("utf-8"))
    with suppress(OSError):
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]
