"""Classes of images as people write them: in a list behind a tab, in a shard as ``.cls``."""

import reprlib
from collections.abc import Sequence

from backbones.errors import PreflightError

# Far above ImageNet-21k's 21,841; a head of so many on 768 features takes 12 GB with its gradient
# and AdamW's moments. What lies beyond is an identifier, such as WordNet's.
LAST_CLASS = 999_999


def class_number(text: str, place: str) -> int:
    """Return the class that ``text`` states.

    Args:
        text: Digits; space around them does not count.
        place: Where the text stands, for messages.

    Raises:
        PreflightError: It states none, or one beyond ``LAST_CLASS``.
    """
    digits = text.strip()
    if not digits.isdecimal():
        raise PreflightError(
            f"{place}: {reprlib.repr(digits)} is not the number of a class; classes are whole "
            "numbers from 0."
        )
    significant = digits.lstrip("0") or "0"
    # The length first: Python refuses to convert thousands of digits.
    if len(significant) > len(str(LAST_CLASS)) or int(significant) > LAST_CLASS:
        raise PreflightError(
            f"{place}: class {digits:.20} is beyond {LAST_CLASS}, the last that is taken; number "
            "the classes from 0 on, or leave them out where none are needed."
        )
    return int(significant)


def tell_partly(place: str, rows: Sequence[tuple[str, int | None]]) -> str:
    """Return a sentence on images of which some have a class and some have none.

    Args:
        place: What gives the classes.
        rows: Names of the images, and their classes or None.
    """
    without = [name for name, label in rows if label is None]
    return (
        f"{place} gives {len(rows) - len(without)} of {len(rows)} images a class, not all; the "
        f"first without is {without[0]}."
    )
