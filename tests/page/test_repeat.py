"""The command in a row's page does the very same run."""

import shlex

import pytest
from msgspec import structs

from benchmarks import cli
from benchmarks.entries import Entry, parse_entries
from benchmarks.leaderboard.page.repeat import Repeater
from benchmarks.plan.assemble import PlanRequest, assemble
from benchmarks.store.spec import FirstWeights
from benchmarks.suites import choose_suite, get_suite


def asked_by(command, cache):
    words = shlex.split(command)
    assert words[:2] == ["python", "benchmarks/run.py"]
    parsed = cli.parser().parse_args(["run", *words[2:]])
    order = PlanRequest(
        suite=choose_suite(parsed.suite, parsed.tasks),
        entries=parse_entries(parsed.entries),
        recipe=parsed.recipe,
        overrides=parsed.overrides,
        seeds=parsed.seeds,
        limit_images=parsed.limit_images,
    )
    return {request.spec.run_id for request in assemble(order, cache)}


@pytest.mark.parametrize(
    ("suite", "overrides"),
    [
        ("coco", []),
        ("coco", ["optim.base_lr=0.003", "optim.betas=[0.8, 0.99]"]),
        ("imagenet", []),
        ("coco", ["evaluation.every_epochs=0.5"]),
    ],
    ids=["plain", "overrides", "imagenet", "outside-identity"],
)
def test_the_command_asks_for_the_same_run(tmp_path, monkeypatch, suite, overrides):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.delenv("IMAGENET_DIR", raising=False)
    order = PlanRequest(
        get_suite(suite), [Entry("vit-nano")], overrides=overrides, seeds=(3,), limit_images=16
    )
    for request in assemble(order, tmp_path):
        found = Repeater().of_request(request)
        assert found["note"] == ""
        assert all(text in found["command"] for text in overrides)
        assert asked_by(found["command"], tmp_path) == {request.spec.run_id}


def test_a_recipe_that_changed_since_is_told(tmp_path):
    (request,) = assemble(PlanRequest(get_suite("coco"), [Entry("vit-nano")]), tmp_path)
    request.spec.recipe["gone"] = {"field": 1}
    assert "another recipe" in Repeater().of_request(request)["note"]


def test_the_detector_that_a_training_began_with_is_named(tmp_path):
    (request,) = assemble(PlanRequest(get_suite("coco"), [Entry("vit-nano")]), tmp_path)
    first = FirstWeights(tmp_path / "state.safetensors", "d" * 64, ("a",), "5eed")
    recipe = {**request.spec.recipe, "protocol": "mini/v1+from-abc123"}
    spec = structs.replace(request.spec, recipe=recipe, first_sha256=first.sha256)
    found = Repeater().of_request(structs.replace(request, spec=spec, first=first))
    assert found == {"command": Repeater().of_request(request)["command"].replace(
        "--seeds", "--init-from 5eed --seeds"), "note": ""}  # fmt: skip
