"""Every task in ``benchmarks/tasks`` keeps the contract of ``benchmarks.task``; no list to edit."""

import json
import pkgutil
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest

from backbones.base.errors import UserError
from backbones.base.sections import as_plain, restore
from backbones.catalog import get_spec, list_specs
from backbones.timing import alone
from backbones.weights.source import open_checkpoint
from benchmarks import tasks
from benchmarks.overrides import apply_overrides
from benchmarks.seed_floors import find_floor
from benchmarks.suites import SUITES, all_suites, get_measurement, get_suite, get_task
from benchmarks.task import EXTERNAL, PRETRAIN, Facts, Metric

ROOT = Path(__file__).resolve().parents[2]
MEASUREMENTS = sorted(info.name for info in pkgutil.iter_modules(tasks.__path__))
NAMES = [name for name in MEASUREMENTS if name != EXTERNAL]
# Large enough for every batch; its sizes are ImageNet's.
IMAGENET = Facts("f" * 64, 1_281_167, 50_000)
RECIPES = [(name, recipe) for name in NAMES for recipe in get_task(name).recipes()]


@pytest.fixture
def mini(monkeypatch):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.delenv("IMAGENET_DIR", raising=False)


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_measurement_says_what_it_measures(name):
    task = get_measurement(name)
    assert task.name == name
    assert task.version >= 1
    assert all(isinstance(metric, Metric) and metric.unit for metric in task.metrics.values())
    assert task.headline == task.columns[0]
    assert set(task.columns) <= set(task.metrics)


@pytest.mark.parametrize("name", NAMES)
def test_planning_on_mini_data_needs_neither_torch_nor_the_data(name, tmp_path):
    program = (
        "import sys, pathlib\n"
        "from backbones.catalog import get_spec\n"
        "from benchmarks.suites import get_task\n"
        f"task = get_task({name!r})\n"
        "data = task.find_data({})\n"
        f"facts = task.read_facts(data, pathlib.Path({str(tmp_path / 'facts')!r}))\n"
        "recipe = task.default_recipe(get_spec('vit-nano'), data)\n"
        "config = task.check(task.recipes()[recipe]())\n"
        "work = task.workload(config, facts, None)\n"
        "assert data.mini and facts.fingerprint and work.num_steps > 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = {"PATH": "", "BACKBENCH_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted({t for s in SUITES.values() for t in s.tasks}))
def test_a_task_can_be_tried_with_a_network_without_attention(name, tmp_path):
    checkpoint = open_checkpoint("random:resnet-nano", None)
    assert get_task(name).try_out(get_spec("resnet-nano"), checkpoint, tmp_path)


@pytest.mark.parametrize("name", sorted({t for s in SUITES.values() for t in s.tasks}))
def test_every_speed_of_a_task_is_timed_alone(name, tmp_path, monkeypatch):
    task, results = get_task(name), []
    run = type(task).run

    def run_timed(self, inputs, monitor):
        results.append(run(self, replace(inputs, timed=True), monitor))
        return results[-1]

    monkeypatch.setattr(type(task), "run", run_timed)
    monkeypatch.setattr(alone, "_SECONDS", 0.01)
    task.try_out(get_spec("vit-nano"), open_checkpoint("random:vit-nano", None), tmp_path)
    rates = results[-1].rates
    speeds = {key for key in results[-1].cost if key.startswith("images_per_second_")}
    assert "images_per_second_test" in speeds
    assert speeds == set(rates.images_per_second) == set(rates.conditions)
    assert all(rate > 0 for rate in rates.images_per_second.values())
    assert all(conditions.alone for conditions in rates.conditions.values())


@pytest.mark.parametrize(("name", "recipe"), RECIPES)
def test_a_recipe_is_frozen_whole_and_survives_json(name, recipe):
    task = get_task(name)
    make = task.recipes()[recipe]
    config = task.check(make())
    assert make() == make()
    with pytest.raises(FrozenInstanceError):
        config.protocol = "mine"
    assert restore(make(), json.loads(json.dumps(as_plain(config)))) == config
    work = task.workload(config, IMAGENET, None)
    assert work.protocol == config.protocol
    assert work.num_images == work.num_steps * work.batch_size
    assert task.workload(config, IMAGENET, 10_000).num_images <= work.num_images


@pytest.mark.parametrize("name", NAMES)
def test_protocols_tell_recipes_apart(name):
    configs = [make() for make in get_task(name).recipes().values()]
    # A pretraining recipe is for one backbone, which is a column of its own.
    keys = [(config.protocol, getattr(config, "backbone", "")) for config in configs]
    assert len(set(keys)) == len(keys)
    assert not any("+custom" in config.protocol for config in configs)


# Values that follow from the recipe or the network, so that nobody may type them.
CHOSEN = {"protocol", "method", "model.attention"}


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_a_recipe_can_be_set(name, mini):
    """Each leaf takes its own value back from text, and thereby has a type that is understood."""

    def leaves(config, prefix=""):
        for item in fields(config):
            value = getattr(config, item.name)
            if hasattr(value, "__dataclass_fields__"):
                yield from leaves(value, f"{prefix}{item.name}.")
            elif prefix + item.name not in CHOSEN:
                yield prefix + item.name, value

    task = get_task(name)
    recipe = task.default_recipe(get_spec("vit-nano"), task.find_data({}))
    config = task.recipes()[recipe]()
    for key, value in leaves(config):
        text = json.dumps(value) if not isinstance(value, str) else value
        assert apply_overrides(config, [f"{key}={text}"]) == config


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_has_a_default_recipe(name, mini):
    task = get_task(name)
    data = task.find_data({})
    for spec in list_specs():
        assert task.default_recipe(spec, data) in task.recipes()


def test_no_recipe_for_pretraining_bears_the_name_of_a_backbone():
    assert not {spec.name for spec in list_specs()} & set(get_task("pretrain").recipes())


def test_suites_hold_known_tasks_and_default_entries(mini):
    known = {spec.name for spec in list_specs()}
    for suite in SUITES.values():
        assert set(suite.tasks) <= set(NAMES)
        data = get_task(suite.tasks[0]).find_data({})
        sources = {entry.source for entry in suite.default_entries(data, None)}
        assert sources <= known | {f"pretrain:{name}" for name in get_task("pretrain").recipes()}
    with pytest.raises(UserError, match='Did you mean "coco"'):
        get_suite("coc")


def test_what_needs_no_checkpoint_is_in_no_suite(mini):
    assert EXTERNAL not in {task for suite in all_suites().values() for task in suite.tasks}
    with pytest.raises(UserError, match="external"):
        get_task(EXTERNAL)
    config = get_measurement(EXTERNAL).recipes()["external"]()
    assert restore(config, json.loads(json.dumps(as_plain(config)))) == config


@pytest.mark.parametrize("name", [name for name in MEASUREMENTS if name != PRETRAIN])
def test_every_protocol_has_a_seed_floor_for_every_metric(name):
    """Without one, rows with one seed would have no interval and no verdict."""
    task = get_measurement(name)
    for make in task.recipes().values():
        floor = find_floor(task.seed_floors, make().protocol)
        assert floor is not None
        assert floor.source
        for metric in task.metrics:
            assert floor.of(metric, task.headline) >= 0
    for floor in task.seed_floors.values():
        assert set(floor.spreads) | set(floor.fresh) <= set(task.metrics)
