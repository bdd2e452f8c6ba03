"""Parts of sentences that several messages share."""

import shlex
from collections.abc import Sequence

# Longest value and longest list item in a message: a file name has at most 255 bytes, and most
# values that need more are damage.
_MOST_QUOTED = 80
_MOST_LISTED = 320


def first_of(items: Sequence[object], count: int = 3, separator: str = ", ") -> str:
    """Return the first items as text and how many follow, such as "a, b, c and 4 more".

    Args:
        items: What is listed; each is shortened in the middle where it is very long.
        count: Number of items that are shown.
        separator: Text between two of them.
    """
    listed = separator.join(shortened(str(item), _MOST_LISTED) for item in items[:count])
    return f"{listed} and {len(items) - count} more" if len(items) > count else listed


def quoted(value: object) -> str:
    """Return a value as a message quotes it: as Python writes it, long ones shortened."""
    return shortened(repr(value), _MOST_QUOTED)


def shortened(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters, without its middle where it is longer."""
    if len(text) <= most:
        return text
    half = (most - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def command(*words: object) -> str:
    """Return a command of this program between backticks, as a person may paste it into a shell.

    Args:
        words: What follows ``run.py``; each becomes one argument, blanks and quotes included.
    """
    return f"`run.py {shlex.join(map(str, words))}`"
