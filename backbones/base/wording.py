"""Parts of sentences that several messages share."""

from collections.abc import Sequence


def first_of(items: Sequence[object], count: int = 3, separator: str = ", ") -> str:
    """Return the first items as text and how many follow, such as "a, b, c and 4 more".

    Args:
        items: What is listed.
        count: Number of items that are shown.
        separator: Text between two of them.
    """
    shown = separator.join(map(str, items[:count]))
    return f"{shown} and {len(items) - count} more" if len(items) > count else shown
