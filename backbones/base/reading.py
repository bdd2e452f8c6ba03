"""What each process is reading, in files that outlive the process.

A library in C that crashes takes its process along: no exception says which image or annotation it
was given. Each thread therefore notes what it reads in a small file that is mapped into memory. The
kernel keeps what was written there, however the process ends, and writing takes a microsecond.
"""

import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backbones.base.files import read_plain
from backbones.base.leftovers import is_gone, this_machine

# Environment variable: folder of the notes. Loader processes inherit it.
_FOLDER = "BACKBENCH_READING"
_SIZE = 1024
# Behind what is read: where the process is.
_PLACE = 896
LOADER = "loader"
MAIN = "main"


@dataclass(frozen=True)
class Unfinished:
    """What a thread of a process was at when the process ended.

    Attributes:
        role: "main" or "loader".
        pid: Number of the process.
        what: What it was reading, such as the path of an image; empty for nothing.
        place: Where it was, such as "train 26"; empty where it never said.
    """

    role: str
    pid: int
    what: str
    place: str = ""


def note_reading_in(folder: Path) -> None:
    """Let this process and its loader processes note what they read, in files of a folder.

    Args:
        folder: Made if absent. Where that fails nothing is noted.
    """
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[_FOLDER] = str(folder)
        _Notes.main = os.getpid()


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Note that this thread reads something until the block ends.

    Args:
        what: Name for a person, such as a path.
    """
    notes = _notes()
    if notes is None:
        yield
        return
    before = notes.what
    notes.write(what)
    try:
        yield
    finally:
        notes.write(before)


def note_place(place: str) -> None:
    """Note where this process is, such as "train 26"."""
    notes = _notes()
    if notes is not None:
        notes.write_place(place)


def unfinished_reading(folder: Path) -> list[Unfinished]:
    """Return what processes of this machine that are gone were at, by file name.

    Args:
        folder: Of the notes; need not exist.
    """
    found = []
    for path in sorted(folder.glob(f"*.{this_machine()}-*-*")):
        role, _, rest = path.name.partition(".")
        pid = rest.split("-")[1]
        if not pid.isdecimal() or not is_gone(int(pid)):
            continue
        with suppress(OSError):
            content = read_plain(path)
            what, place = (_text(part) for part in (content[:_PLACE], content[_PLACE:]))
            if what or place:
                found.append(Unfinished(role, int(pid), what, place))
    return found


def forget_reading(folder: Path) -> None:
    """Remove the notes of processes of this machine that are gone."""
    for path in folder.glob(f"*.{this_machine()}-*-*"):
        pid = path.name.split("-")[1]
        if pid.isdecimal() and is_gone(int(pid)):
            path.unlink(missing_ok=True)


@contextmanager
def reading_noted(folder: Path) -> Iterator[None]:
    """Note what this process reads until the block ends, and remove the notes then.

    Args:
        folder: As in ``note_reading_in``.
    """
    note_reading_in(folder)
    try:
        yield
    finally:
        os.environ.pop(_FOLDER, None)
        for path in folder.glob(f"*.{this_machine()}-{os.getpid()}-*"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


class _Notes:
    """The note of one thread.

    Attributes:
        main: Process that asked for notes; others are its loader processes.
    """

    main = 0

    def __init__(self, folder: str) -> None:
        """Make the file and map it.

        Raises:
            OSError: It cannot be made.
        """
        self.pid = os.getpid()
        self.folder = folder
        self.what = ""
        role = MAIN if self.pid == _Notes.main else LOADER
        name = f"{role}.{this_machine()}-{self.pid}-{threading.get_native_id()}"
        with (Path(folder) / name).open("w+b") as file:
            file.truncate(_SIZE)
            self._map = mmap.mmap(file.fileno(), _SIZE)

    def write(self, what: str) -> None:
        self.what = what
        text = what.encode("utf-8", "surrogateescape")[: _PLACE - 1]
        self._map[: len(text) + 1] = text + b"\0"

    def write_place(self, place: str) -> None:
        text = place.encode("utf-8", "surrogateescape")[: _SIZE - _PLACE - 1]
        self._map[_PLACE : _PLACE + len(text) + 1] = text + b"\0"


def _text(content: bytes) -> str:
    return content.partition(b"\0")[0].decode("utf-8", "surrogateescape")


_own = threading.local()


def _notes() -> _Notes | None:
    """Return this thread's note, None where none is kept; a forked process gets one of its own."""
    folder = os.environ.get(_FOLDER)
    if folder is None:
        return None
    notes: _Notes | None = getattr(_own, "notes", None)
    if notes is None or (notes.pid, notes.folder) != (os.getpid(), folder):
        notes = None
        with suppress(OSError):
            notes = _own.notes = _Notes(folder)
    return notes
