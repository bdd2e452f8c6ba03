"""Remove what killed processes left in a folder of runs."""

from collections.abc import Iterable
from contextlib import AbstractContextManager

from backbones.base.leftovers import remove_all_leftovers, remove_leftovers
from backbones.base.reading import forget_reading, reading_noted, unfinished_reading
from benchmarks import output
from benchmarks.store.folders import Store

_SLURM = ".slurm"
_READING = "reading"


def planning_noted(store: Store) -> AbstractContextManager[None]:
    """Note what this process reads while it plans; say what an earlier one did not finish reading.

    Args:
        store: Folder of runs.
    """
    folder = store.cache / _READING
    crashed = [note.what for note in unfinished_reading(folder) if note.what]
    if crashed:
        output.note(
            f"An earlier command ended while it read {' or '.join(dict.fromkeys(crashed))}. If "
            "this one crashes as well, replace or remove that file."
        )
    forget_reading(folder)
    return reading_noted(folder)


def remove_killed_writes(store: Store, unfinished: Iterable[str]) -> None:
    """Remove temporary files whose writer is gone: of the store, its caches and unfinished runs.

    A folder that something is written into again is cleaned by that as well (``atomic_file``).

    Args:
        store: Folder of runs.
        unfinished: Ids of the runs that have no record.
    """
    remove_leftovers(store.root)
    remove_all_leftovers(store.cache)
    slurm = store.root / _SLURM
    for folder in (slurm, *slurm.glob("*/")):
        remove_leftovers(folder)
    for run_id in unfinished:
        remove_all_leftovers(store.folder(run_id).path)
