"""Names to specs: the zoo, plug-ins and every timm network. Imports torch for timm names alone."""

from pathlib import Path

from backbones.registry import lookup, zoo
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
        from backbones.timm_families import timm_spec

        return timm_spec(name.removeprefix(TIMM))
    return lookup("backbone", name, zoo(plugins))


def list_specs(plugins: Path | None = None) -> list[BackboneSpec]:
    """Return the specs of the zoo and of the plug-ins, by name."""
    found = zoo(plugins)
    return [found[name] for name in sorted(found)]
