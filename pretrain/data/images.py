"""Image sets: encoded images by number, whatever they lie in."""

import hashlib
import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from backbones.base.content import FileContents

# Tar shards that a process keeps open at once; the usual limit of open files is 1,024.
_OPEN_SHARDS = 64


class Strings(Sequence[str]):
    """Many strings in one buffer.

    Python objects forked into workers are copied page by page as their reference counts change;
    bytes in one array stay shared, and a million names take their own length and no more.
    """

    def __init__(self, items: Sequence[str]) -> None:
        """Pack ``items``."""
        parts = [item.encode("utf-8", "surrogateescape") for item in items]
        self._ends = np.cumsum([0, *map(len, parts)])
        self._bytes = np.frombuffer(b"".join(parts), dtype=np.uint8)

    def __len__(self) -> int:
        """Return the number of strings."""
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        """Return one string."""
        part = self._bytes[self._ends[index] : self._ends[index + 1]]
        return part.tobytes().decode("utf-8", "surrogateescape")


class ImageSet(ABC):
    """Encoded images, numbered from 0 in an order that depends on their names alone.

    Attributes:
        name: For people: the folder's or file's.
        fingerprint: Identity of the content, wherever it lies: of names, bytes and classes.
        former_fingerprint: What identified them before content did: names, sizes and classes.
        notes: What was left out of the set, one sentence each.
        digests: What identifies the content of each image; empty where only shards have that.
        classes: Names of the classes; empty where images have none.
        partly_classed: Where some have a class and some have none, so that ``classes`` is empty, a
            sentence on which; else empty.
    """

    name: str
    fingerprint: str
    classes: tuple[str, ...] = ()
    partly_classed: str = ""
    former_fingerprint: str = ""
    notes: tuple[str, ...] = ()
    digests: Sequence[bytes] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """Return one image's bytes, as stored.

        Raises:
            OSError: They cannot be read.
        """

    @abstractmethod
    def name_of(self, index: int) -> str:
        """Return where one image lies, for messages."""

    def label(self, index: int) -> int:
        """Return one image's class.

        Raises:
            IndexError: Images have no classes.
        """
        del index
        raise IndexError(f"{self.name} has no classes")


class FileImages(ImageSet):
    """One file an image."""

    def __init__(
        self,
        root: Path,
        files: Sequence[tuple[str, int]],
        labels: Sequence[int] | None = None,
        classes: tuple[str, ...] = (),
        *,
        digests: Sequence[str],
    ) -> None:
        """Number the files.

        Args:
            root: Folder that names are relative to.
            files: Names and sizes in bytes, in the order of their numbers.
            labels: Their classes, if any.
            classes: Names of the classes.
            digests: Of the content of each (``digests_of``).
        """
        self.name = root.name
        self.classes = classes
        self._root = root
        self._files = Strings([name for name, _ in files])
        self._labels = np.asarray(labels, dtype=np.int32) if labels is not None else None
        self.former_fingerprint = _fingerprint(files, labels)
        self.digests = [bytes.fromhex(digest) for digest in digests]
        identified = [(name, digest) for (name, _), digest in zip(files, digests, strict=True)]
        self.fingerprint = _fingerprint(identified, labels)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._files)

    def read(self, index: int) -> bytes:
        """Return one image's bytes."""
        return (self._root / self._files[index]).read_bytes()

    def name_of(self, index: int) -> str:
        """Return one image's path."""
        return str(self._root / self._files[index])

    def label(self, index: int) -> int:
        """Return one image's class."""
        return super().label(index) if self._labels is None else int(self._labels[index])


class TarImages(ImageSet):
    """Images inside tar files, read where they lie, in any order, without unpacking."""

    def __init__(
        self,
        name: str,
        shards: Sequence[Path],
        members: Sequence[Sequence[tuple[str, int, int]]],
        labels: Sequence[int] | None = None,
        *,
        digests: Sequence[str],
    ) -> None:
        """Number the images shard by shard.

        Args:
            name: Of the set.
            shards: The tar files.
            members: For each, its images: name, offset of the content, size; in bytes.
            labels: Their classes, if any.
            digests: Of the content of each shard (``digests_of``).
        """
        self.name = name
        self._shards = tuple(shards)
        flat = [member for shard in members for member in shard]
        self._names = Strings([member[0] for member in flat])
        self._places = np.array([member[1:] for member in flat], dtype=np.int64).reshape(-1, 2)
        self._firsts = [0, *np.cumsum([len(shard) for shard in members]).tolist()]
        self._labels = np.asarray(labels, dtype=np.int32) if labels is not None else None
        if labels is not None:
            self.classes = tuple(str(number) for number in range(max(labels) + 1))
        sized = [
            (f"{shard.name}/{member[0]}", member[2])
            for shard, inside in zip(shards, members, strict=True)
            for member in inside
        ]
        self.former_fingerprint = _fingerprint(sized, labels)
        identified = [(shard.name, digest) for shard, digest in zip(shards, digests, strict=True)]
        self.fingerprint = _fingerprint([*sized, *identified], labels)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._names)

    def read(self, index: int) -> bytes:
        """Return one image's bytes."""
        offset, size = (int(value) for value in self._places[index])
        return _open_shard(self._shard(index)).read(offset, size)

    def name_of(self, index: int) -> str:
        """Return shard and name of one image."""
        return f"{self._shard(index)}/{self._names[index]}"

    def label(self, index: int) -> int:
        """Return one image's class."""
        return super().label(index) if self._labels is None else int(self._labels[index])

    def _shard(self, index: int) -> Path:
        return self._shards[bisect_right(self._firsts, index) - 1]


class Subset(ImageSet):
    """Some images of a set."""

    def __init__(self, images: ImageSet, indices: Sequence[int]) -> None:
        """Number the images at ``indices`` anew, in that order."""
        self.name = images.name
        self.classes = images.classes
        self.partly_classed = images.partly_classed
        self._images = images
        self._indices = np.asarray(indices, dtype=np.int64)
        self.notes = images.notes
        self.fingerprint, self.former_fingerprint = (
            hashlib.sha256(known.encode() + self._indices.tobytes()).hexdigest()[:16]
            for known in (images.fingerprint, images.former_fingerprint)
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._indices)

    def read(self, index: int) -> bytes:
        """Return one image's bytes."""
        return self._images.read(int(self._indices[index]))

    def name_of(self, index: int) -> str:
        """Return where one image lies."""
        return self._images.name_of(int(self._indices[index]))

    def label(self, index: int) -> int:
        """Return one image's class."""
        return self._images.label(int(self._indices[index]))


def digests_of(root: Path | str, names: Sequence[str], cache: Path, what: str = "") -> list[str]:
    """Return what identifies the content of files; read only where size or times changed.

    Args:
        root: Folder that the names start from.
        names: Of the files.
        cache: Folder for what is known.
        what: Tells sets apart that have files in the same folder.

    Raises:
        PreflightError: The cache cannot be written.
    """
    key = hashlib.sha256(f"{root}\0{what}".encode("utf-8", "surrogateescape"))
    record = cache / "images" / f"content-{key.hexdigest()[:16]}.json"
    return [look.digest for look in FileContents(record).look(root, names)]


def _fingerprint(files: Sequence[tuple[str, int | str]], labels: Sequence[int] | None) -> str:
    digest = hashlib.sha256()
    for name, size in files:
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
    digest.update(repr(list(labels or [])).encode())
    return digest.hexdigest()[:16]


class _Shard:
    """An open tar file; reads state their place, so that forked processes may share it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        content = os.pread(self._descriptor, size, offset)
        if len(content) < size:
            raise OSError(f"the shard ends after {len(content)} of its {size} bytes")
        return content


@lru_cache(maxsize=_OPEN_SHARDS)
def _open_shard(path: Path) -> _Shard:
    return _Shard(path)
