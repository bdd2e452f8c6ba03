"""The content of many files: read once, then trusted while size and times stay.

A file's size, modification time and change time decide whether its content is read again; what a
user sets back (``touch -d``, ``rsync --times``) is found by the change time, which only the
kernel sets. The digest that identifies a file depends on its bytes alone.
"""

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import msgspec

from backbones.base.cores import usable_cores
from backbones.base.errors import PreflightError
from backbones.base.files import read_plain, write_atomically
from backbones.base.reading import reading

# Files of more bytes than this together are identified by blocks of each, not by all of it: reading
# 32 GiB takes two minutes from a disk of 300 MB/s, and COCO's training images are 19 GB.
WHOLE_BYTES = 32 * 2**30
BLOCK_BYTES = 16 * 2**10
# Two writes within a tick of the file system's clock leave the same times (FAT: 2 s, ext4: 4 ms),
# so that what was written just before it was read is read once more next time.
_TICK_NS = 50_000_000
# Waiting for a disk takes longer than hashing, so that even one core serves several readers.
_FEWEST_READERS = 4
_FILES_AT_ONCE = 32
_SECONDS_UNTIL_TOLD = 3.0
# What was read is kept so often, so that a look that is killed loses no more; one takes 0.3 s for
# 118,000 files.
_SECONDS_UNTIL_KEPT = 30.0

Progress = Callable[[int, int], None]


class Look(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a file.

    Attributes:
        size: In bytes; -1 where there is no such file.
        mtime_ns: Of its content.
        ctime_ns: Of its inode; 0 where the times cannot be trusted the next time.
        digest: 32 hex digits, of all bytes or of its size and blocks.
        seen: What ``inspect`` returned for its bytes.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    digest: str = ""
    seen: str = ""


class Looks(msgspec.Struct, frozen=True):
    """What is known of a folder's files.

    Attributes:
        kind: How they were looked at; another kind is looked at anew.
        files: By name.
        checksum: SHA-256 of the other two, in hex: a wrong digest would be another data set.
    """

    kind: str
    files: dict[str, Look]
    checksum: str

    @classmethod
    def signed(cls, kind: str, files: dict[str, Look]) -> "Looks":
        """Return this with its checksum."""
        return cls(kind, files, hashlib.sha256(msgspec.json.encode([kind, files])).hexdigest())


class FileContents:
    """What files hold, remembered in one file of a cache.

    Args:
        record: Where it is remembered.
        inspect: Called with a file's bytes while they are read; what it returns is kept.
        version: Raised when ``inspect`` returns something else for the same bytes.
    """

    def __init__(
        self, record: Path, inspect: Callable[[bytes], str] | None = None, version: int = 1
    ) -> None:
        self._record = record
        self._inspect = inspect
        self._kind = f"content-1 inspect-{version if inspect else 0}"

    def look(
        self, root: Path | str, names: Sequence[str], progress: Progress | None = None
    ) -> list[Look]:
        """Return what is known of files, in the order of their names.

        A look that is interrupted or killed keeps what it read, and the next one goes on from it.

        Args:
            root: Folder that the names start from.
            names: Of the files, with ``/`` between folders.
            progress: Called with files done and files to do, where reading takes seconds.

        Raises:
            PreflightError: The record cannot be written.
        """
        known = self._known()
        states = [_state(f"{root}/{name}") for name in names]
        whole = sum(max(0, state.size) for state in states) <= WHOLE_BYTES
        kind = f"{self._kind} {'whole' if whole else 'blocks'}"
        old = known.files if known is not None and known.kind == kind else {}
        keys = [_key(name) for name in names]
        found = [_trusted(old.get(key), state) for key, state in zip(keys, states, strict=True)]
        todo = [at for at, look in enumerate(found) if look is None]
        paths = [f"{root}/{names[at]}" for at in todo]
        read = _Reader(self._inspect if whole else None, whole)
        with closing(_in_threads(read, paths)) as looks:
            told = _told(looks, len(todo), progress)
            self._fill(found, todo, told, partial(self._keep, kind, keys))
        if todo or len(set(keys)) != len(old):
            self._keep(kind, keys, found)
        return [look for look in found if look is not None]

    @staticmethod
    def _fill(
        found: list[Look | None],
        todo: Sequence[int],
        looks: Iterable[Look],
        keep: Callable[[Sequence[Look | None]], None],
    ) -> None:
        """Put looks at their places, and keep now and then, and at an interruption, what is there.

        Args:
            found: Gets the looks.
            todo: Their places.
            looks: One for each place.
            keep: Writes the record.
        """
        kept = time.monotonic()
        try:
            for at, look in zip(todo, looks, strict=True):
                found[at] = look
                if time.monotonic() - kept > _SECONDS_UNTIL_KEPT:
                    keep(found)
                    kept = time.monotonic()
        except BaseException:
            with suppress(PreflightError):
                keep(found)
            raise

    def _keep(self, kind: str, keys: Sequence[str], found: Sequence[Look | None]) -> None:
        """Write what is known of files, those that were not looked at yet left out."""
        files = {key: look for key, look in zip(keys, found, strict=True) if look is not None}
        write_atomically(self._record, msgspec.json.encode(Looks.signed(kind, files)))

    def _known(self) -> Looks | None:
        try:
            found = msgspec.json.decode(read_plain(self._record), type=Looks)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return found if found == Looks.signed(found.kind, found.files) else None


def sampled(looks: Iterable[Look]) -> bool:
    """Return whether files together are too large to be identified by all of their bytes."""
    return sum(max(0, look.size) for look in looks) > WHOLE_BYTES


class _Reader:
    """Reads a file: its digest, and what ``inspect`` sees in it."""

    def __init__(self, inspect: Callable[[bytes], str] | None, whole: bool) -> None:
        self._inspect = inspect
        self._whole = whole

    def __call__(self, path: str) -> Look:
        before = _state(path)
        if before.size < 0:
            return before
        try:
            digest, seen = self._read(path, before.size)
        except OSError:
            return Look(-1, 0, 0)
        recent = time.time_ns() - before.ctime_ns < _TICK_NS
        return Look(before.size, before.mtime_ns, 0 if recent else before.ctime_ns, digest, seen)

    def _read(self, path: str, size: int) -> tuple[str, str]:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - once a file, 1,000,000 times
            if self._whole:
                content = file.readall()
                with reading(path):
                    seen = self._inspect(content) if self._inspect else ""
                return hashlib.sha256(content).hexdigest()[:32], seen
            digest = hashlib.sha256(f"{size} ".encode())
            for start in (0, (size - BLOCK_BYTES) // 2, size - BLOCK_BYTES):
                file.seek(max(0, start))
                digest.update(file.read(BLOCK_BYTES))
            return digest.hexdigest()[:32], ""


def _key(name: str) -> str:
    """Return a name as JSON can hold it; names that are no UTF-8 come as surrogates."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").hex(" ")


def _state(path: str) -> Look:
    try:
        found = os.stat(path)  # noqa: PTH116 - once a file, 1,000,000 times
    except (OSError, ValueError):
        return Look(-1, 0, 0)
    return Look(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _trusted(known: Look | None, state: Look) -> Look | None:
    """Return what is known of a file whose size and times are as they were, else None."""
    if state.size < 0:
        return state
    if known is None or known.ctime_ns != state.ctime_ns:
        return None
    return known if (known.size, known.mtime_ns) == (state.size, state.mtime_ns) else None


def _in_threads(read: Callable[[str], Look], paths: Sequence[str]) -> Generator[Look, None, None]:
    """Yield what ``read`` finds for each path, in order; hashing and decoding share the cores."""
    parts = [paths[at : at + _FILES_AT_ONCE] for at in range(0, len(paths), _FILES_AT_ONCE)]
    pool = ThreadPoolExecutor(max(_FEWEST_READERS, usable_cores()))
    try:
        for looks in pool.map(lambda part: [read(path) for path in part], parts):
            yield from looks
    finally:
        # An interruption waits for the files in hand, not for all that were asked for.
        pool.shutdown(cancel_futures=True)


def _told(looks: Iterable[Look], count: int, progress: Progress | None) -> Iterator[Look]:
    """Yield ``looks``, and tell now and then how many there were."""
    last = time.monotonic()
    for done, look in enumerate(looks, start=1):
        yield look
        if progress is not None and time.monotonic() - last > _SECONDS_UNTIL_TOLD:
            last = time.monotonic()
            progress(done, count)
