"""Remove what killed processes left in a folder of runs."""

from collections.abc import Iterable

from backbones.base.leftovers import remove_all_leftovers, remove_leftovers
from benchmarks.store.folders import Store

_SLURM = ".slurm"


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
