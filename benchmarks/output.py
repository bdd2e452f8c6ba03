"""Words on the terminal: what is printed, where, and with untrusted text made harmless."""

import json
import sys
from typing import Any


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


def document(content: Any) -> None:
    """Print ``content`` as one JSON document on standard output."""
    line(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
