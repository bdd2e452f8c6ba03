"""Processes that a native library ended: what they were reading, and whether to try again.

A crash by chance, such as of bad memory, is over with the next attempt. A file that a library
cannot bear crashes every attempt at the same step; the second one ends the run.
"""

import re
import signal
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from backbones.base.errors import UserError
from backbones.base.json_files import JsonFormat, UnreadableFileError
from backbones.base.reading import (
    MAIN,
    Unfinished,
    forget_reading,
    note_reading_in,
    unfinished_reading,
)
from benchmarks.store.folders import BusyError, RunFolder
from benchmarks.work.attempts import give_up

# Signals with which the kernel or the C library ends a process for a mistake in its code.
CRASHES = (signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)
# In a run's work folder: what each of its processes reads.
READING = "reading"
_FILE = "crash.json"
_START = "start"
# What torch's loader says of a process that ended (torch/utils/data, _utils/signal_handling.py and
# dataloader.py).
_LOADER_ENDED = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
_HINT = "Replace or remove that file, or update the library that reads it (Pillow, pycocotools)."


class LoaderEndedError(UserError):
    """A loader process was ended while it read something; the message says what."""

    exit_code = 3


class _Crash(Struct, frozen=True, forbid_unknown_fields=True):
    """The last crash of a run.

    Attributes:
        signal: Number of the signal.
        place: How far the run was: phase and step.
        reading: What was being read, empty where nothing was.
    """

    signal: int
    place: str
    reading: str


_FORMAT = JsonFormat(_Crash, "note of a crash")


def notes_of(folder: RunFolder) -> Path:
    """Return where the processes of a run note what they read."""
    return folder.work / READING


def begin_notes(folder: RunFolder) -> None:
    """Let this process of a run note what it reads."""
    forget_reading(notes_of(folder))
    note_reading_in(notes_of(folder))


def explained(error: BaseException, folder: RunFolder) -> BaseException:
    """Return what torch says of a loader process that ended as an error that names the file.

    Args:
        error: What the run raised.
        folder: Of the run.
    """
    found = _LOADER_ENDED.search(str(error)) if isinstance(error, RuntimeError) else None
    if found is None:
        return error
    pids = {int(text) for text in re.findall(r"\d+", found[1])}
    notes = [
        note for note in unfinished_reading(notes_of(folder)) if note.pid in pids and note.what
    ]
    if not notes:
        return error
    if "Killed" in str(error):
        return LoaderEndedError(
            f"A loader process was killed while it read {_names(notes)}, perhaps because memory "
            "ran out. Use fewer loader processes, or look at that file."
        )
    return LoaderEndedError(f"A loader process crashed while it read {_names(notes)}. {_HINT}")


def note_crash(folder: RunFolder, number: int) -> tuple[str, bool]:
    """Write down that a signal ended a process of a run; end the run at the second in one place.

    Args:
        folder: Of the run, at which no process is at work any more.
        number: The signal, one of ``CRASHES``.

    Returns:
        Where the crash was, in words, and whether the run was ended with a record.
    """
    # Loader processes end with the process that they load for, whatever they are reading then.
    notes = [one for one in unfinished_reading(notes_of(folder)) if one.role == MAIN]
    what = _names(notes)
    place = next((one.place for one in notes if one.place), _START)
    crash = _Crash(number, place, what)
    before = None
    with suppress(UnreadableFileError):
        before = _FORMAT.read(folder.path / _FILE)
    _FORMAT.write(folder.path / _FILE, crash)
    name = signal.Signals(number).name
    where = f"at {place}" + (f", while it read {what}" if what else "")
    if before is None or not _same_place(before, crash):
        return where, False
    message = f"Its process was ended by signal {number} ({name}) for the second time {where}."
    hint = _HINT if what else "The log next to the record says what the libraries said."
    try:
        give_up(folder, "NativeCrash", message, hint)
    except BusyError:
        return where, False
    return where, True


def _same_place(one: _Crash, other: _Crash) -> bool:
    # An attempt that goes on from a state says where it is only after its first step.
    return one.reading == other.reading and other.place in (one.place, _START)


def _names(notes: list[Unfinished]) -> str:
    return " or ".join(dict.fromkeys(note.what for note in notes if note.what))
