"""Recipes keep their identity: a run id must not move unless its recipe changes on purpose.

``golden_recipes.json`` holds a hash of every recipe in plain form, by task and name. Whoever
changes a recipe on purpose changes its protocol too, and its hash there.
"""

import json
from pathlib import Path

from backbones.base.files import hash16
from backbones.base.sections import as_plain
from benchmarks.suites import get_task

GOLDEN = json.loads(Path(__file__).with_name("golden_recipes.json").read_text("utf-8"))


def test_recipes_are_those_of_the_records():
    tasks = [get_task(name) for name in sorted({key.partition("/")[0] for key in GOLDEN})]
    found = {
        f"{task.name}/{recipe}": hash16(as_plain(task.check(make())))
        for task in tasks
        for recipe, make in task.recipes().items()
    }
    assert found == GOLDEN
    assert len(GOLDEN) == 104
