"""Recipes keep their identity: a run id must not move unless its recipe changes on purpose.

``golden_recipes.json`` holds a hash of every recipe in plain form, by task and name. Whoever
changes a recipe on purpose changes its protocol too, and its hash there; a new recipe adds its own.
"""

import json
import pkgutil
from pathlib import Path

from backbones.base.files import hash16
from backbones.base.sections import as_plain, leaves
from benchmarks import tasks
from benchmarks.overrides import apply_overrides
from benchmarks.suites import get_measurement

GOLDEN = json.loads(Path(__file__).with_name("golden_recipes.json").read_text("utf-8"))


def test_recipes_are_those_of_the_records():
    found = {
        f"{name}/{recipe}": hash16(as_plain(get_measurement(name).check(make())))
        for name in (info.name for info in pkgutil.iter_modules(tasks.__path__))
        for recipe, make in get_measurement(name).recipes().items()
    }
    assert found == GOLDEN


def test_how_a_run_is_done_is_not_what_it_is():
    """Compiling, recomputing and reading change neither id nor protocol of any recipe."""
    for key in GOLDEN:
        task, _, recipe = key.partition("/")
        measurement = get_measurement(task)
        config = measurement.check(measurement.recipes()[recipe]())
        how = [leaf for leaf in leaves(config) if leaf.name in _HOW]
        for leaf in how:
            value = "true" if isinstance(leaf.value, bool) else "7"
            changed = apply_overrides(config, [f"{leaf.name}={value}"])
            assert changed != config
            assert changed.protocol == config.protocol
            assert hash16(as_plain(changed)) == GOLDEN[key]
        assert how or task not in ("coco", "pretrain", "finetune", "partial")


_HOW = (
    "model.activation_checkpointing",
    "runtime.compile",
    "runtime.activation_checkpointing",
    "runtime.read_every",
    "runtime.picture_every",
)
