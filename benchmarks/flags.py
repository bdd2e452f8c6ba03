"""Make the flags of a command from a dataclass: a field is a flag."""

import argparse
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, Field, field, fields
from typing import Any


def flag(
    text: str = "",
    *,
    default: Any = MISSING,
    name: str = "",
    positional: bool = False,
    **given: Any,
) -> Any:
    """Return a dataclass field that is a flag of the command line.

    Args:
        text: Its help; ``%(default)s`` stands for the default.
        default: Its value when it is not typed; a flag without one is required.
        name: What is typed after the dashes; empty takes the field's name.
        positional: It is typed without dashes.
        given: Further arguments of ``argparse``'s ``add_argument``.
    """
    if "nargs" in given and default is MISSING:
        default = []
    metadata = {"name": name, "positional": positional, "given": {"help": text, **given}}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def switch(text: str) -> Any:
    """Return a dataclass field that is True when its flag is typed."""
    return flag(text, default=False, action="store_true")


def add_flags(parser: argparse.ArgumentParser, options: type[Any]) -> None:
    """Add the flags that the fields of a dataclass are, those of the class before inherited ones.

    Args:
        parser: Of a command.
        options: A dataclass; fields that are not made by ``flag`` are left out.
    """
    for item in _own_first(options):
        if "given" not in item.metadata:
            continue
        given = dict(item.metadata["given"])
        if item.metadata["positional"]:
            parser.add_argument(item.name, **given)
            continue
        typed = item.metadata["name"] or item.name.replace("_", "-")
        if item.default is MISSING and item.default_factory is MISSING:
            given["required"] = True
        elif "action" not in given or given["action"] == "append":
            factory = item.default_factory
            given["default"] = item.default if factory is MISSING else factory()
        parser.add_argument(f"--{typed}", dest=item.name, **given)


def _own_first(options: type[Any]) -> Iterator[Field[Any]]:
    by_name = {item.name: item for item in fields(options)}
    for part in options.__mro__:
        for name in inspect.get_annotations(part):
            if name in by_name:
                yield by_name.pop(name)


def count(text: str) -> int:
    """Return the number of at least 1 that a text stands for."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def share(text: str) -> float:
    """Return the number from 0 to 1 that a text stands for."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return number


def seconds(text: str) -> float:
    """Return the positive number of seconds that a text stands for."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return number


def given(text: str) -> str:
    """Return a text that is not empty, as that of an unset variable of a script would be."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a value, or leave the flag out")
    return text


def pieces(text: str) -> list[str]:
    """Return the parts between commas, empty ones included."""
    return text.split(",")


def names(text: str) -> tuple[str, ...]:
    """Return the names between commas, none of them empty."""
    found = tuple(name.strip() for name in text.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; separate names by commas")
    return found


def seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of a count (3) or a list (5,7)."""
    parts = [part for part in text.split(",") if part]
    if not parts or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a count (3) nor a list (5,7)")
    numbers = tuple(dict.fromkeys(int(part) for part in parts))
    if "," in text:
        return numbers
    if numbers[0] < 1:
        raise argparse.ArgumentTypeError("at least one seed is needed")
    return tuple(range(numbers[0]))
