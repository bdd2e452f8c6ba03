"""Files of finished runs that nothing needs any more, and that may be damaged all the same."""

from collections.abc import Iterable
from os.path import lexists
from pathlib import Path

from benchmarks.store.folders import Store
from benchmarks.store.record_file import BadRecordError


def faults_of_finished(store: Store, run_ids: Iterable[str]) -> list[tuple[Path, str]]:
    """Return the invalid requests, heartbeats and journals of runs, each with the reason.

    Args:
        store: Folder of runs.
        run_ids: Of runs that have a valid record.
    """
    found: list[tuple[Path, str]] = []
    for folder in map(store.folder, run_ids):
        try:
            if lexists(folder.request):  # a link to itself is there too
                folder.read_request()
        except BadRecordError as error:
            found.append((folder.request, str(error).removeprefix(f"{folder.request}: ")))
        except OSError as error:
            found.append((folder.request, f"it cannot be read ({error.strerror})"))
        found += folder.faults()
    return found
