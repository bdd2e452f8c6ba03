"""Names to things, by folder scan: a file that is present is registered."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Collection
from difflib import get_close_matches
from types import ModuleType
from typing import TypeVar

from backbones.base.errors import UserError

Thing = TypeVar("Thing")


def modules_of(package: str) -> list[ModuleType]:
    """Import every module that lies directly in ``package``, in order of their names."""
    paths = importlib.import_module(package).__path__
    names = sorted(info.name for info in pkgutil.iter_modules(paths))
    return [importlib.import_module(f"{package}.{name}") for name in names]


def lookup(kind: str, name: str, known: dict[str, Thing]) -> Thing:
    """Return ``known[name]``.

    Raises:
        UserError: The name is unknown; names the nearest one and all that exist.
    """
    if name in known:
        return known[name]
    guess = did_you_mean(name, known)
    raise UserError(f'Unknown {kind} "{name}".{guess} Available: {", ".join(sorted(known))}.')


def nearest(name: str, known: Collection[str], cutoff: float = 0.6) -> str:
    """Return the known name that a mistyped one resembles most, empty if none does.

    Args:
        name: As it was typed.
        known: Names that exist.
        cutoff: Smallest similarity, 0 to 1; see ``difflib.get_close_matches``.
    """
    return next(iter(get_close_matches(name, known, n=1, cutoff=cutoff)), "")


def did_you_mean(name: str, known: Collection[str], prefix: str = "") -> str:
    """Return the question that follows a sentence about an unknown name, with a leading space.

    Args:
        name: As it was typed.
        known: Names that exist.
        prefix: Stands in front of each of them when it is typed.

    Returns:
        Empty where no known name resembles it.
    """
    near = nearest(name, known)
    return f' Did you mean "{prefix}{near}"?' if near else ""
