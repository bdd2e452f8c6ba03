"""Names to things, by folder scan: a file that is present is registered."""

import importlib
import importlib.util
import pkgutil
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
    near = get_close_matches(name, known, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(f"Unknown {kind} {name!r}.{guess} Available: {', '.join(sorted(known))}.")
