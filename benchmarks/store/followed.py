"""Checkpoints of a training that is followed, by the epoch that each was saved after."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from msgspec import Struct

from backbones.base.files import hash16
from backbones.base.json_files import JsonFormat, UnreadableFileError

_FOLDER = ".followed"


class FollowedCheckpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """A checkpoint.

    Attributes:
        epoch: Number that its name or its content has; None where neither has one.
        file: Its path below the followed folder.
        weights_sha256: As in the runs that measure it.
    """

    epoch: int | None
    file: str
    weights_sha256: str


class Followed(Struct, frozen=True, forbid_unknown_fields=True):
    """A training that is followed.

    Attributes:
        name: Name of its folder.
        checkpoints: In the order of their epochs.
        schema: Of the file.
    """

    name: str
    checkpoints: tuple[FollowedCheckpoint, ...]
    schema: Literal["backbench.followed/1"] = "backbench.followed/1"


_FORMAT = JsonFormat(Followed, "list of followed checkpoints")


def remember_checkpoints(
    root: Path, folder: Path, found: Sequence[FollowedCheckpoint]
) -> list[FollowedCheckpoint]:
    """Write down checkpoints next to those of before, and return all in the order of their epochs.

    A file that was written over stays in the list with the content that was measured.

    Args:
        root: Folder of runs.
        folder: The followed one.
        found: Checkpoints in it.

    Raises:
        PreflightError: The list cannot be written.
    """
    path = root / _FOLDER / f"{hash16(str(folder.absolute()))}.json"
    before: tuple[FollowedCheckpoint, ...] = ()
    with suppress(UnreadableFileError):
        before = _FORMAT.read(path).checkpoints
    known = {one.weights_sha256: one for one in (*before, *found)}
    ordered = sorted(known.values(), key=lambda one: (one.epoch is None, one.epoch or 0, one.file))
    path.parent.mkdir(parents=True, exist_ok=True)
    _FORMAT.write(path, Followed(folder.absolute().name, tuple(ordered)))
    return ordered


def read_followed(root: Path) -> list[Followed]:
    """Return the trainings that a folder of runs follows, by name; damaged lists are left out."""
    found = []
    for path in sorted((root / _FOLDER).glob("*.json")):
        with suppress(UnreadableFileError):
            found.append(_FORMAT.read(path))
    return sorted(found, key=lambda one: one.name)
