"""Which data sets a folder of runs holds as one collection."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from msgspec import Struct

from backbones.base.files import hash16
from backbones.base.json_files import JsonFormat, UnreadableFileError
from benchmarks.store.spec import RunRequest

_FOLDER = ".collections"


class CollectedSet(Struct, frozen=True, forbid_unknown_fields=True):
    """A data set of a collection.

    Attributes:
        name: As tables show it.
        fingerprint: Identity of its content; empty where it could not be read.
        fault: Why it could not be read; empty where it was.
    """

    name: str
    fingerprint: str
    fault: str = ""


class Collection(Struct, frozen=True, forbid_unknown_fields=True):
    """Data sets whose mean a row shows.

    Attributes:
        name: Of the collection.
        task: Name of the task that measures them.
        sets: In the order in which they were given.
        schema: Of the file.
    """

    name: str
    task: str
    sets: tuple[CollectedSet, ...]
    schema: Literal["backbench.collection/1"] = "backbench.collection/1"


_FORMAT = JsonFormat(Collection, "collection of data sets")


def remember(
    root: Path, name: str, requests: Sequence[RunRequest], faults: Mapping[str, str]
) -> None:
    """Write down which sets belong together, for each task; nothing for fewer than two.

    Args:
        root: Folder of runs.
        name: Of the collection; empty for none.
        requests: Planned runs.
        faults: Why sets could not be read, by name.

    Raises:
        PreflightError: The file cannot be written.
    """
    for task in dict.fromkeys(request.spec.task for request in requests) if name else ():
        known = {
            request.data.name: request.spec.data_fingerprint
            for request in requests
            if request.spec.task == task and not request.data.mini
        }
        broken = [CollectedSet(own, "", why) for own, why in faults.items()]
        sets = (*(CollectedSet(own, sha) for own, sha in known.items()), *broken)
        if len(sets) > 1:
            write_collection(root, Collection(name, task, sets))


def write_collection(root: Path, collection: Collection) -> None:
    """Write down a collection; one of the same name and task is replaced.

    Raises:
        PreflightError: The file cannot be written.
    """
    path = root / _FOLDER / f"{hash16([collection.name, collection.task])}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    _FORMAT.write(path, collection)


def read_collections(root: Path) -> list[Collection]:
    """Return the collections of a folder of runs, by name; damaged files are left out."""
    found = []
    for path in sorted((root / _FOLDER).glob("*.json")):
        with suppress(UnreadableFileError):
            found.append(_FORMAT.read(path))
    return sorted(found, key=lambda one: (one.name, one.task))
