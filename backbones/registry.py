"""Names to things, by folder scan: a file that is present is registered. Imports no torch."""

import importlib
import importlib.util
import pkgutil
import sys
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from backbones.errors import UserError
from backbones.files import sha256_file
from backbones.spec import BackboneSpec

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


def zoo(plugins: Path | None = None) -> dict[str, BackboneSpec]:
    """Return every registered backbone by name.

    Args:
        plugins: A folder whose ``*.py`` files define further specs.

    Raises:
        UserError: The folder does not exist, a file in it cannot be imported or defines no spec,
            or two specs share a name.
    """
    found = dict(_built_in_zoo())
    for path in _plugin_files(plugins) if plugins else []:
        specs = _specs_of(_import_file(path))
        if not specs:
            raise UserError(f"{path} defines no BackboneSpec; see docs/backbones.md.")
        for spec in specs:
            if spec.name in found:
                raise UserError(f"{path} registers {spec.name!r}, which exists already.")
            found[spec.name] = replace(spec, file_sha256=sha256_file(path))
    return found


@cache
def _built_in_zoo() -> dict[str, BackboneSpec]:
    specs = [spec for module in modules_of("backbones.zoo") for spec in _specs_of(module)]
    return {spec.name: spec for spec in specs}


def _specs_of(module: ModuleType) -> list[BackboneSpec]:
    """Return the specs a module defines, alone or in tuples."""
    specs: list[BackboneSpec] = []
    for value in vars(module).values():
        values = value if isinstance(value, tuple) else (value,)
        specs += [item for item in values if isinstance(item, BackboneSpec)]
    return specs


def _plugin_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"--plugins {folder}: there is no such folder.")
    return sorted(folder.glob("*.py"))


def _import_file(path: Path) -> ModuleType:
    name = f"backbench_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None  # a .py file always has one
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"Plugin {path} cannot be imported: {error!r}.") from error
    return module
