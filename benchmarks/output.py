"""Words on the terminal: what is printed, where, and with untrusted text made harmless."""

import codecs
import io
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TextIO

from backbones.base.errors import PreflightError
from backbones.base.files import why_unwritable

# Number of files that are named for the same fault.
_NAMED = 10
# What stands for our own signs where the terminal's encoding has none of them.
_PLAIN = {"─": "-", "┄": "-", "—": "-", "…": ".", "·": ".", "±": "+-"}


def prepare() -> None:
    """Make the standard streams take any text.

    What their encoding lacks is replaced; what goes to a closed one is dropped.
    """
    codecs.register_error("plain", _plain)
    # Python has None for a stream that was closed before it began. Opened here, nulls take the
    # lowest free numbers, those of the streams, which no other file can get then.
    if sys.stdin is None:
        sys.stdin = _null("r")
    if sys.stdout is None:
        sys.stdout = _null()
    if sys.stderr is None:
        sys.stderr = _null()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def clean(text: str) -> str:
    """Return ``text`` without anything that could steer a terminal.

    Names and messages come from files that others wrote; escape sequences, line breaks and
    direction overrides in them become a middle dot.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "·" for character in text)


def clean_lines(text: str) -> str:
    """Return a text of several lines, each of them ``clean``."""
    return "\n".join(map(clean, text.splitlines()))


def line(text: str = "") -> None:
    """Print one line on standard output.

    Raises:
        PreflightError: The disk is full.
    """
    with outlasting(sys.stdout):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def note(text: str) -> None:
    """Print one line on standard error, which keeps standard output free for results."""
    with outlasting(sys.stderr):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


@contextmanager
def outlasting(stream: IO[str]) -> Iterator[None]:
    """Write to a stream so that the command goes on after its reader has ended.

    From when the reader leaves, as ``| head`` does, what is written goes nowhere: a run is worth
    more than its audience. So it is with standard error on a full disk, for want of a place to say
    it.

    Args:
        stream: What the body writes to and flushes.

    Raises:
        PreflightError: The disk of another stream is full.
    """
    try:
        yield
    except OSError as error:
        drop(stream)
        if not isinstance(error, BrokenPipeError) and stream is not sys.stderr:
            raise PreflightError(
                f"Cannot write standard output: {why_unwritable(error)}. Send it elsewhere or free "
                "space, then run the same command again; everything written before is kept."
            ) from error


def drop(stream: IO[str]) -> None:
    """Let what is written to a stream go nowhere from now on, and what its buffer still holds."""
    with _null() as null:
        os.dup2(null.fileno(), stream.fileno())


def left_out(files: Iterable[tuple[Path, str]]) -> None:
    """Name files that are not used and why, on standard error; of many with one fault the first.

    Args:
        files: Each with its fault.
    """
    by_fault: dict[str, list[Path]] = defaultdict(list)
    for path, fault in files:
        by_fault[fault].append(path)
    for fault, paths in by_fault.items():
        for path in paths[:_NAMED]:
            note(f"left out: {clean(f'{path}: {fault}')}")
        if len(paths) > _NAMED:
            note(f"left out: {len(paths) - _NAMED:,} more files for the last reason")


def document(content: Any) -> None:
    """Print ``content`` as one JSON document on standard output."""
    # An escape keeps a name that another encoding could only replace.
    escaped = (sys.stdout.encoding or "utf-8").lower() != "utf-8"
    line(json.dumps(content, indent=2, ensure_ascii=escaped, allow_nan=False))


def _null(mode: Literal["r", "w"] = "w") -> TextIO:
    number = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
    # Processes that are started later get it as well, as they get any standard stream.
    os.set_inheritable(number, True)
    return os.fdopen(number, mode, encoding="utf-8")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Return what replaces characters that cannot be encoded, and where to go on."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in lacking), error.end
