"""Names to specs: the zoo, plug-ins and every timm network. Imports torch for timm names alone."""

import importlib
import importlib.util
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

from backbones.base.errors import UserError
from backbones.base.files import sha256_file
from backbones.base.registry import lookup, modules_of
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec

TIMM = "timm:"


def get_spec(name: str, plugins: Path | None = None) -> BackboneSpec:
    """Return the spec of a backbone.

    Args:
        name: Of the zoo, of a plug-in, or ``timm:NAME``.
        plugins: Folder of further specs, see ``registry.zoo``.

    Raises:
        UserError: Nothing has that name; says which come near.
    """
    if name.startswith(TIMM):
        from backbones.timm_networks.families import timm_spec

        return timm_spec(name.removeprefix(TIMM))
    return lookup("backbone", name, zoo(plugins))


def spec_for(checkpoint: Checkpoint, plugins: Path | None = None) -> BackboneSpec:
    """Return the spec of a checkpoint's backbone, with the normalisation of its weights.

    Raises:
        UserError: As ``get_spec``.
    """
    spec = get_spec(checkpoint.backbone, plugins)
    return replace(spec, mean=checkpoint.mean or spec.mean, std=checkpoint.std or spec.std)


def list_specs(plugins: Path | None = None) -> list[BackboneSpec]:
    """Return the specs of the zoo and of the plug-ins, by name."""
    found = zoo(plugins)
    return [found[name] for name in sorted(found)]


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
