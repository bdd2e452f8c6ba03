"""Words on the terminal: what is printed, where, and with untrusted text made harmless."""

import codecs
import io
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Of files with one fault, so many are named.
_NAMED = 10
# What stands for our own signs where the terminal's encoding has none of them.
_PLAIN = {"─": "-", "┄": "-", "—": "-", "…": ".", "·": "."}


def prepare() -> None:
    """Make the standard streams take any text: what their encoding lacks is replaced."""
    codecs.register_error("plain", _plain)
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


def line(text: str = "") -> None:
    """Print one line on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print one line on standard error, which keeps standard output free for results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


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


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Return what replaces characters that cannot be encoded, and where to go on."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in lacking), error.end
