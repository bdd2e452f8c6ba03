"""Adds the folders beside this file to those that are scanned, in any process that has it."""

import importlib
from pathlib import Path

_HERE = Path(__file__).parent


def _extend(package, folder):
    importlib.import_module(package).__path__.append(str(_HERE / folder))


_extend("benchmarks.tasks", "tasks")
_extend("pretrain.recipes", "recipes")
_extend("pretrain.methods", "methods")
