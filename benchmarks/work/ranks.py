"""What ended a process of a run other than its first, told to whoever writes the record.

Only the first process records. It sees no more of such an end than that the group broke, and where
it waits on a GPU not even that.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from backbones.base.errors import PreflightError
from backbones.base.json_files import JsonFormat, UnreadableFileError
from benchmarks.store.record import Failure
from benchmarks.work.recorded import failed_record

if TYPE_CHECKING:
    from benchmarks.store.folders import RunFolder

_FORMAT = JsonFormat(Failure, "failure of a process")


def note_failure(folder: "RunFolder", rank: int, error: BaseException) -> None:
    """Leave word of what ended this process, best effort.

    Args:
        folder: Of the run.
        rank: Of this process.
        error: What it raised.
    """
    beat = folder.read_heartbeat()
    phase = beat.phase if beat is not None else "start"
    failure = failed_record(folder.read_request(), error, phase).record.failure
    assert failure is not None
    named = Failure(
        failure.phase,
        failure.type,
        f"Process {rank}: {failure.message}",
        failure.hint.replace("The log next to the record", f"log-{rank}.txt next to the record"),
        failure.exit_code,
    )
    with suppress(PreflightError):
        _FORMAT.write(folder.path / f"failure-{rank}.json", named)


def failure_of_another(folder: "RunFolder") -> Failure | None:
    """Return what ended the first of the other processes that left word in this start."""
    for path in sorted(folder.path.glob("failure-*.json")):
        with suppress(UnreadableFileError):
            return _FORMAT.read(path)
    return None


def forget_failures(folder: "RunFolder") -> None:
    """Drop what processes of earlier starts left."""
    for path in folder.path.glob("failure-*.json"):
        path.unlink(missing_ok=True)
