"""A folder of images walked through: what it holds, and what is left out of it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from backbones.base.images import SUFFIXES, UNREAD_SUFFIXES
from backbones.base.wording import first_of

Listing = list[tuple[str, int]]
# Thumbnails and resource forks that a NAS and macOS write next to the images.
_NOT_IMAGES = frozenset({"@eaDir", "__MACOSX", "@Recycle", "#recycle"})


@dataclass
class Walked:
    """What a folder holds.

    Attributes:
        files: Names and sizes in bytes of the images, sorted.
        broken: Names of links that lead nowhere.
        unread: Names of images in formats that are not read here.
        ignored: Names of folders that hold no images of the set.
        folders: Names of the folders at the top.
    """

    files: Listing = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    def notes(self, root: Path) -> tuple[str, ...]:
        """Return a sentence on each kind of what is left out."""
        used = {name.partition("/")[0] for name, _ in self.files if "/" in name}
        vanished = [name for name in self.folders if name not in used] if used else []
        kinds = sorted({os.path.splitext(name)[1].lower() for name in self.unread})  # noqa: PTH122
        return tuple(
            f"{len(names)} {what} in {root} {'is' if len(names) == 1 else 'are'} left out: "
            f"{first_of(sorted(names))}."
            for names, what in (
                (self.broken, "links to files that do not exist"),
                (self.unread, f"images of formats that are not read ({', '.join(kinds)})"),
                (self.ignored, "folders of thumbnails or deleted files"),
                (vanished, "folders without an image, so classes,"),
            )
            if names
        )


def walk(root: Path) -> Walked:
    """Look through all folders below ``root``, links followed, none visited twice."""
    found = Walked()
    for folder, entry in _entries(root):
        name = f"{folder}/{entry.name}" if folder else entry.name
        if not entry.is_dir():
            _take(found, name, entry)
        elif entry.name in _NOT_IMAGES:
            found.ignored.append(name)
        elif not folder:
            found.folders.append(name)
    found.files.sort()
    return found


def _take(found: Walked, name: str, entry: "os.DirEntry[str]") -> None:
    """Sort a file in."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a million times
    if suffix in UNREAD_SUFFIXES:
        found.unread.append(name)
    elif suffix not in SUFFIXES:
        return
    elif entry.is_file():
        found.files.append((name, entry.stat().st_size))
    else:
        found.broken.append(name)


def _entries(root: Path) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Yield everything below ``root`` with the name of its folder, but what is hidden."""
    waiting, seen = [""], set()
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(root / folder)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir() and entry.name not in _NOT_IMAGES:
                    waiting.append(f"{folder}/{entry.name}" if folder else entry.name)
                yield folder, entry
