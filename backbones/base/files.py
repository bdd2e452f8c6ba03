"""Files that are either whole or absent, and their checksums."""

import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from backbones.base.errors import PreflightError
from backbones.base.leftovers import SUFFIX, prefix_of, remove_leftovers

# Flushes that wait for the disk at the same time; a journal commits them together.
_FLUSHERS = 16
# Files that are held in memory at once while others are written.
_BATCH = 64
# Larger than any record, note, journal or listing that the program writes.
MOST_SMALL_BYTES = 256 * 2**20
_CANNOT_WRITE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
}


def path_of(text: str) -> Path:
    """Return the path that a user typed, ``~`` and ``~USER`` replaced.

    Raises:
        PreflightError: No file can have that name.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except RuntimeError as error:
        raise PreflightError(f"{text}: that user has no home folder; write it in full.") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PreflightError(f"{text[:60]}…: no file has that name ({reason}).") from error
    return path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file through ``atomic_file``.

    Args:
        path: Final name; its folder is made if absent.
        content: All bytes of the file.

    Raises:
        PreflightError: The disk is full, or the folder cannot be written.
    """
    with atomic_file(path) as file:
        file.write(content)


def write_all_atomically(files: Iterable[tuple[Path, bytes]]) -> None:
    """Write files as ``write_atomically`` does, and flush them to disk together.

    Waiting for the disk after each of thousands of files would take most of the time. No file
    gets its final name before all are on the disk.

    Args:
        files: Final names, each with all bytes; folders are made if absent.

    Raises:
        PreflightError: The disk is full, or a folder cannot be written.
    """
    staged: list[tuple[Path, Path]] = []
    path, mode = Path(), 0o666 & ~_umask()

    def stage(one: tuple[Path, bytes]) -> None:
        handle, temporary = _make_temporary(one[0])
        staged.append((temporary, one[0]))
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(one[1])
                # mkstemp makes files private; a shared results folder needs the user's umask.
                os.fchmod(handle, mode)
        except OSError as error:
            raise cannot_write(one[0], error) from error

    try:
        with ThreadPoolExecutor(_FLUSHERS) as pool:
            rest = iter(files)
            while batch := list(islice(rest, _BATCH)):
                list(pool.map(stage, batch))
            list(pool.map(_flush, [temporary for temporary, _ in staged]))
            for temporary, path in staged:
                temporary.replace(path)
            list(pool.map(_flush, {path.parent for _, path in staged}))
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file in the folder of ``path``; flush and rename it when the block ends.

    A reader, and a start after a crash at any moment, sees the old file or the new one, never half
    of one. If the block raises, the old file stays. Temporary files of processes that are gone are
    removed from the folder first.

    Args:
        path: Final name; its folder is made if absent.

    Yields:
        The temporary file, open for writing bytes.

    Raises:
        PreflightError: The disk is full, or the folder cannot be written.
    """
    handle, temporary = _make_temporary(path)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; a shared results folder needs the user's umask instead.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json_atomically(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON with sorted keys, atomically; NaN is refused.

    Raises:
        PreflightError: As ``write_atomically``.
        ValueError: ``content`` holds NaN or infinity, which are not JSON.
    """
    write_atomically(path, json_text(content))


def json_text(content: Any) -> bytes:
    """Return plain JSON values as indented bytes with sorted keys and a line feed at the end.

    Names of files that are not UTF-8 (lone surrogates in Python) are written as escapes.

    Raises:
        ValueError: They contain NaN or infinity.
    """
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(content, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"


def open_plain(path: Path, most: int | None = None) -> BinaryIO:
    """Open a file for reading, provided that it is a plain one.

    A named pipe would block its reader for ever, and a device may have no end.

    Args:
        path: The file; links are followed.
        most: Largest size in bytes; None for any.

    Raises:
        OSError: It is absent, unreadable, not a plain file, or too large.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    facts = os.fstat(descriptor)
    if stat.S_ISREG(facts.st_mode) and (most is None or facts.st_size <= most):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))
    raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))


def read_plain(path: Path, most: int | None = MOST_SMALL_BYTES) -> bytes:
    """Return the bytes of a plain file; see ``open_plain``.

    Raises:
        OSError: As ``open_plain``.
    """
    with open_plain(path, most) as file:
        return file.read()


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(content: Any) -> str:
    """Return the one JSON text of ``content``: sorted keys, no spaces, no NaN; for hashing."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def cannot_write(path: Path, error: OSError) -> PreflightError:
    """Turn an ``OSError`` from writing ``path`` into one sentence."""
    return PreflightError(
        f"Cannot write {path}: {why_unwritable(error)}. Free space or choose another folder with "
        "--out, then run the same command again; everything written before is kept."
    )


def why_unwritable(error: OSError) -> str:
    """Return in words why something could not be written."""
    if error.errno is None and "requested and" in str(error):
        # NumPy's ndarray.tofile, which np.save uses, tells only how many bytes are missing.
        return _CANNOT_WRITE[errno.ENOSPC]
    return _CANNOT_WRITE.get(error.errno or 0, error.strerror or str(error))


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _make_temporary(path: Path) -> tuple[int, Path]:
    """Make an empty file in the folder of a final name; return its descriptor and its path."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        prefix = prefix_of(path.name)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=SUFFIX)
    except OSError as error:
        raise cannot_write(path, error) from error
    return handle, Path(name)


def _flush(path: Path) -> None:
    """Flush a file or a folder to disk; without the latter a power loss may undo a rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash16(content: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of ``content`` as canonical JSON."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]
