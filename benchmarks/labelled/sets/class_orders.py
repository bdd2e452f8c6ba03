"""The orders in which people number classes, and a refusal where they disagree.

A file that names classes by number does not say how its author sorted their names. Folders are
sorted as strings here, as ``torchvision.datasets.ImageFolder`` does; other tools sort numbers by
value ("2" before "10"), digits inside names likewise, or ignore upper and lower case.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from backbones.base.errors import PreflightError
from backbones.base.wording import quoted

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_DIGITS = re.compile(r"(\d+)")


def refuse_ambiguous_numbers(
    path: Path, numbers: Iterable[int], classes: Sequence[str], fix: str
) -> None:
    """Raise where numbers of classes mean other classes in another usual order of the names.

    Args:
        path: The file that names classes by number.
        numbers: Those that it uses, from 0 to ``len(classes) - 1``.
        classes: Names of the classes. Where they are not sorted as strings, their source numbers
            them, and nothing is refused.
        fix: What to do instead, the end of the message.

    Raises:
        PreflightError: Names the first number with two readings, and both.
    """
    if list(classes) != sorted(classes):
        return
    used = sorted(set(numbers))
    for order, key in _other_orders(classes):
        ordered = sorted(classes, key=key)
        number = next((number for number in used if ordered[number] != classes[number]), None)
        if number is not None:
            raise PreflightError(
                f"{path} can be read in two ways: class number {number} is "
                f"{quoted(classes[number])} in string order and {quoted(ordered[number])} in "
                f"{order}; {fix}."
            )


def _other_orders(classes: Sequence[str]) -> list[tuple[str, Callable[[str], Any]]]:
    """Return the name and the sort key of each usual order other than that of strings."""
    numeric = all(_NUMBER.fullmatch(name) for name in classes)
    return [
        *([("numeric order", float)] if numeric else []),
        ("natural order", _natural),
        ("case-insensitive order", str.lower),
        ("natural case-insensitive order", lambda name: _natural(name.lower())),
    ]


def _natural(name: str) -> list[str | int]:
    """Return a sort key by which digits inside names count as one number."""
    return [int(part) if place % 2 else part for place, part in enumerate(_DIGITS.split(name))]
