"""Small sets get steps enough, and more detections a protocol of their own."""

from dataclasses import replace

import pytest

from benchmarks.overrides import apply_overrides, base_protocol
from benchmarks.suites import get_task
from benchmarks.task import Facts
from detection.recipes import RECIPES, vitdet_25ep
from detection.schedule import images_in_use, num_steps
from detection.small_sets import FEWEST_STEPS, lengthened, varied

FACTS = Facts("f", 205, 159)


def test_205_images_get_1000_steps_under_a_protocol_of_their_own() -> None:
    task, named = get_task("coco"), vitdet_25ep()
    config, (told,) = task.fit_to_data(task.check(named), FACTS, named)
    work = task.workload(config, FACTS, None)
    assert (work.num_steps, work.protocol) == (1000, "vitdet/v1+25ep+1000steps")
    assert "are 80 steps, raised to 1000 (312 epochs)" in told
    assert task.fit_to_data(config, FACTS, config) == (config, ())


def test_a_length_that_was_asked_for_stays() -> None:
    task, named = get_task("coco"), vitdet_25ep()
    config = task.check(apply_overrides(named, ["schedule.epochs=3"]))
    assert task.fit_to_data(config, FACTS, named) == (config, ())
    other = task.check(apply_overrides(named, ["optim.base_lr=1e-3"]))
    longer, told = task.fit_to_data(other, FACTS, named)
    assert told
    assert base_protocol(longer.protocol) == "vitdet/v1+25ep+1000steps"
    assert longer.protocol.partition("+custom:")[2] == other.protocol.partition("+custom:")[2]


@pytest.mark.parametrize(
    "name", [name for name in RECIPES if not name.startswith(("mini", "small"))]
)
def test_no_recipe_on_coco_is_longer_for_it(name: str) -> None:
    config = RECIPES[name]()
    assert lengthened(config, 117_266) is None
    assert num_steps(config.schedule, images_in_use(config.data, 117_266)) >= FEWEST_STEPS


def test_more_detections_are_another_protocol() -> None:
    task = get_task("coco")
    config = task.check(apply_overrides(vitdet_25ep(), ["evaluation.detections_per_image=300"]))
    assert base_protocol(config.protocol) == "vitdet/v1+25ep+300dets"
    assert task.check(config) == config
    fewer = replace(vitdet_25ep().evaluation, detections_per_image=50)
    assert "dets" not in task.check(replace(vitdet_25ep(), evaluation=fewer)).protocol


def test_a_variant_is_named_once_and_before_overrides() -> None:
    assert varied("a/v1", "x") == "a/v1+x"
    assert varied("a/v1+x", "x") == "a/v1+x"
    assert varied("a/v1+custom:123456", "x") == "a/v1+x+custom:123456"
