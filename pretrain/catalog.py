"""Recipes by name, by folder scan."""

from collections.abc import Callable
from functools import cache

from backbones.base.registry import lookup, modules_of
from pretrain.config import PretrainConfig

Recipe = Callable[[], PretrainConfig]


@cache
def recipes() -> dict[str, Recipe]:
    """Return every recipe by name: the ``RECIPES`` of all modules in ``pretrain/recipes``."""
    found: dict[str, Recipe] = {}
    for module in modules_of("pretrain.recipes"):
        for name, recipe in module.RECIPES.items():
            if name in found:
                raise ValueError(f"{module.__name__} registers {name!r}, which exists already")
            found[name] = recipe
    return found


def get_recipe(name: str) -> PretrainConfig:
    """Return a fresh config of the recipe ``name``.

    Raises:
        UserError: There is no such recipe.
    """
    return lookup("pretraining recipe", name, recipes())()
