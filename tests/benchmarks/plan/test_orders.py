"""What one command asks of suites with several tasks; planning alone, so no torch."""

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from backbones.base.errors import UserError
from benchmarks.entries import parse_entries
from benchmarks.plan.assemble import PlanRequest, assemble
from benchmarks.plan.weights import first_weights
from benchmarks.store.spec import FirstWeights, Start
from benchmarks.suites import choose_suite, get_suite, get_task
from detection.small_sets import begun_with, without_start

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Return a function that assembles an order for vit-nano on the mini data."""
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.delenv("IMAGENET_DIR", raising=False)

    def assembled(suite=None, **wishes):
        order = PlanRequest(
            suite or get_suite("all"), entries=parse_entries(["vit-nano"]), **wishes
        )
        return {request.spec.task: request for request in assemble(order, tmp_path)}

    return assembled


def test_every_task_of_a_suite_measures_the_same_weights(plan):
    requests = plan()
    assert list(requests) == list(get_suite("all").tasks)
    assert {"coco", "knn", "linear", "lowshot"} <= set(requests)
    weights = {(r.spec.weights_sha256, r.spec.weights_format, r.spec.seed)
               for r in requests.values()}  # fmt: skip
    assert len(weights) == 1


def test_a_recipe_is_for_the_task_that_has_it(plan):
    requests = plan(recipe="linear-mae")
    assert requests["linear"].recipe == "linear-mae"
    assert requests["knn"].recipe == "knn-mini"
    with pytest.raises(UserError, match="linear-mea"):
        plan(recipe="linear-mea")


def test_an_override_is_for_the_tasks_that_have_its_field(plan):
    requests = plan(overrides=["vote.temperature=0.1"])
    assert "+custom" in requests["knn"].protocol
    assert "+custom" not in requests["linear"].protocol + requests["coco"].protocol
    shared = plan(suite=get_suite("imagenet"), overrides=["data.img_size=48"])
    assert all("+custom" in request.protocol for request in shared.values())
    with pytest.raises(UserError, match=r"vote\.temprature"):
        plan(overrides=["vote.temprature=0.1"])


def tasks_of(name, *wanted):
    return choose_suite(name, wanted).tasks


def test_tasks_narrow_a_suite():
    assert tasks_of("") == ("coco",)
    assert tasks_of("imagenet") == get_suite("imagenet").tasks
    assert tasks_of("all", "linear", "coco") == ("coco", "linear")
    assert choose_suite("", ["knn"]) == choose_suite("imagenet", ["knn"])
    assert choose_suite("", ["attention"]).name == "analysis"
    assert choose_suite("", ["knn", "coco"]).name == "all"


def test_a_task_alone_is_the_same_run_as_in_its_suite(plan):
    alone = plan(suite=choose_suite("", ["linear"]), overrides=["data.img_size=48"])
    assert list(alone) == ["linear"]
    within = plan(suite=get_suite("imagenet"), overrides=["data.img_size=48"])
    assert alone["linear"].spec == within["linear"].spec
    with pytest.raises(UserError, match=r"vote\.temperature"):
        plan(suite=choose_suite("", ["linear"]), overrides=["vote.temperature=0.1"])


def test_an_evaluator_is_for_the_task_that_has_it(plan):
    requests = plan(evaluator="pycocotools")
    assert requests["coco"].evaluator == "pycocotools"
    assert requests["knn"].evaluator == ""
    with pytest.raises(UserError, match=r"--evaluator three: the suite all has hotcoco"):
        plan(evaluator="three")


def test_a_plan_of_everything_is_made_without_torch_in_a_second(tmp_path):
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['run.py', '--suite', 'all', '--dry-run', '--out', {str(tmp_path)!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'benchmarks' / 'run.py')!r}, run_name='__main__')\n"
        "except SystemExit as error:\n"
        "    assert not error.code\n"
        "assert not {'torch', 'timm', 'detectron2'} & set(sys.modules)\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lowshot-mini" in done.stdout
    # A second on a machine of its own; the bound is what a busy one takes.
    assert time.perf_counter() - start < 10


@pytest.fixture
def start(monkeypatch):
    """Return a maker of detectors to begin with; whether they fit is not looked at."""

    def begin(config, start, backbone, data, cache):
        return dataclasses.replace(config, protocol=begun_with(config.protocol, "abc123")), "taken"

    monkeypatch.setattr(get_task("coco"), "begin", begin)

    def make(sha256="d" * 64, **changes):
        first = FirstWeights(Path("state.safetensors"), sha256, ("a",), "5eed")
        values = {"backbone": "vit-nano", "weights": "random", "entry": "vit-nano"}
        values |= {"recipe": "mini", "protocol": "mini/v1", "data": "coco", "fingerprint": "f"}
        return Start(first, **{**values, **changes})

    return make


def test_a_run_that_begins_with_a_detector_is_a_run_of_its_own(plan, start):
    suite = choose_suite("", ["coco"])
    plain = plan(suite)["coco"]
    begun = plan(suite, start=start())["coco"]
    other = plan(suite, start=start("e" * 64))["coco"]
    assert begun.protocol == "mini/v1+from-abc123"
    assert without_start(begun.protocol) == plain.protocol
    assert first_weights(begun) == ["first weights: taken"]
    assert len({request.spec.run_id for request in (plain, begun, other)}) == 3
    # None of them answers another's question under older rules.
    assert len({request.cell for request in (plain, begun, other)}) == 3
    custom = plan(suite, start=start(), overrides=["optim.base_lr=0.1"])["coco"].protocol
    assert custom.startswith("mini/v1+from-abc123+custom:")


def test_a_detector_that_does_not_belong_is_refused(plan, start):
    for changes, words in (
        ({"backbone": "swin-nano"}, "backbone swin-nano, but the entry vit-nano has vit-nano"),
        ({"weights": "a" * 64}, "trained from other weights .* name vit-nano with --entries"),
    ):
        with pytest.raises(UserError, match=words):
            plan(choose_suite("", ["coco"]), start=start(**changes))
    with pytest.raises(UserError, match="task knn trains no detector; use --tasks coco"):
        plan(choose_suite("", ["knn"]), start=start())


def write_set(folder, name="coins"):
    """Write a data set of two images of 32 x 32 with a box each."""
    for split in ("train", "valid"):
        (folder / name / split).mkdir(parents=True)
        content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "coin"}]}
        for number in (1, 2):
            file = f"{number}.png"
            colour = (40 * number, len(name), ord(name[1]))
            Image.new("RGB", (32, 32), colour).save(folder / name / split / file)
            size = {"width": 32, "height": 32}
            content["images"].append({"id": number, "file_name": file, **size})
            box = {"bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}
            content["annotations"].append(
                {"id": number, "image_id": number, "category_id": 1, **box}
            )
        (folder / name / split / "_annotations.coco.json").write_text(json.dumps(content))
    return folder / name


def test_one_command_plans_every_set_and_leaves_out_a_broken_one(tmp_path):
    """Also a copy of another set, which a mean would count twice."""
    given = {name: write_set(tmp_path, name) for name in ("coins", "cells")}
    (tmp_path / "empty").mkdir()
    shutil.copytree(given["coins"], tmp_path / "copy")
    given |= {name: tmp_path / name for name in ("empty", "gone", "copy")}
    order = PlanRequest(choose_suite("", ["coco"]), parse_entries(["vit-nano"]), "mini",
                        seeds=(0, 1), data=given)  # fmt: skip
    faults = {}
    requests = assemble(order, tmp_path / "cache", faults)
    assert [(r.data.name, r.spec.seed) for r in requests] == [
        ("coins", 0), ("coins", 1), ("cells", 0), ("cells", 1),
    ]  # fmt: skip
    assert {request.protocol for request in requests} == {"mini/v1+1000steps"}
    assert "does not hold images annotated" in faults["empty"]
    assert "does not exist" in faults["gone"]
    assert faults["copy"] == "it has the same content as coins."
    none = dataclasses.replace(order, data={name: given[name] for name in ("empty", "gone")})
    with pytest.raises(UserError, match=r"None of 2 data sets can be used: empty: .*; gone: "):
        assemble(none, tmp_path / "cache", {})
    with pytest.raises(UserError, match=r"^Unknown backbone"):
        assemble(dataclasses.replace(order, entries=parse_entries(["vit-nan"])), tmp_path, {})
