"""Recipes keep their identity: a run id must not move unless its recipe changes on purpose.

``golden_recipes.json`` holds a hash of every recipe in plain form, by task and name. Whoever
changes a recipe on purpose changes its protocol too, and its hash there; a new recipe adds its own.
"""

import json
import pkgutil
from pathlib import Path

from backbones.base.files import hash16
from backbones.base.sections import as_plain
from benchmarks import tasks
from benchmarks.suites import get_measurement

GOLDEN = json.loads(Path(__file__).with_name("golden_recipes.json").read_text("utf-8"))


def test_recipes_are_those_of_the_records():
    found = {
        f"{name}/{recipe}": hash16(as_plain(get_measurement(name).check(make())))
        for name in (info.name for info in pkgutil.iter_modules(tasks.__path__))
        for recipe, make in get_measurement(name).recipes().items()
    }
    assert found == GOLDEN
