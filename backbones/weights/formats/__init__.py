"""Checkpoint formats by name: every file below this folder that holds a ``Format`` registers it.

Imports no torch. A new project takes one small file with one ``Format``; see
``backbones.weights.layout`` for its fields and ``docs/checkpoints.md`` for what users type.
"""

from collections.abc import Mapping

from backbones.base.registry import modules_of
from backbones.weights.layout import Format

FOLDERS = (
    "libraries",
    "transformers",
    "masked",
    "distilled",
    "contrastive",
    "supervised",
    "foundation",
)


def _scan() -> dict[str, Format]:
    found: dict[str, Format] = {}
    for folder in FOLDERS:
        for module in modules_of(f"{__name__}.{folder}"):
            for form in vars(module).values():
                if isinstance(form, Format):
                    assert form.name not in found, f"two formats are called {form.name}"
                    found[form.name] = form
    return dict(sorted(found.items()))


FORMATS: Mapping[str, Format] = _scan()
