"""Fine-tuning that is interrupted, or asked for what cannot be."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.base.errors import PreflightError, StoppedError, UserError
from backbones.catalog import get_spec
from backbones.weights.source import open_checkpoint
from benchmarks.data.roots import DataRoot
from benchmarks.labelled.config import ExtractionConfig
from benchmarks.suites import get_task
from benchmarks.task import TaskInputs
from benchmarks.tasks.attention.recipes import attention_mini
from benchmarks.tasks.correspondence.recipes import correspondence_mini
from benchmarks.tasks.finetune.recipes import finetune_mini
from benchmarks.tasks.partial.recipes import partial, partial_mini
from tests.faults.test_imagenet_faults import Ears, fill

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def images(tmp_path):
    """Return a folder of 24 training and 12 test images in six classes."""
    root = tmp_path / "images"
    fill(root, "train")
    fill(root, "val", count=2)
    return root


def small(**tune):
    config = finetune_mini()
    schedule = replace(
        config.schedule, epochs=2.0, batch_size=8, batch_size_per_device=4, state_images=16
    )
    data = replace(config.data, img_size=16, resize_to=18, max_corrupt=1)
    return replace(config, data=data, schedule=schedule, tune=replace(config.tune, **tune))


@pytest.fixture
def run(tmp_path):
    def call(root, config, monitor=None, folder="work", task="finetune", name="vit-nano"):
        inputs = TaskInputs(
            backbone=get_spec(name),
            checkpoint=open_checkpoint(name, None),
            config=config,
            data=DataRoot("imagenet", "mine", root, "--data mine"),
            out_dir=tmp_path / folder,
            cache=tmp_path / "cache",
            seed=0,
        )
        return get_task(task).run(inputs, monitor or Ears())

    return call


def test_a_stopped_training_ends_as_if_it_had_not_stopped(images, run, tmp_path):
    config = small(ema_momentum=0.5)
    whole = run(images, config)
    with pytest.raises(StoppedError, match="Stopped after step 3 of 6; saved"):
        run(images, config, Ears(stop_after=2), folder="again")
    monitor = Ears()
    resumed = run(images, config, monitor, folder="again")
    assert "Going on from step 3 of 6." in monitor.said
    assert resumed.curves == whole.curves
    assert resumed.metrics == whole.metrics
    one, other = (np.load(tmp_path / f / "predictions.npz") for f in ("work", "again"))
    for name in one.files:
        assert np.array_equal(one[name], other[name]), name


def test_another_recipe_does_not_go_on_from_the_state(images, run):
    run(images, small())
    with pytest.raises(UserError, match="holds the state of another run \\(settings"):
        run(images, small(layer_decay=0.5))


def test_corrupt_test_images_are_counted_and_named_up_to_a_limit(images, run):
    (images / "val" / "bee" / "bee_1.png").write_bytes(b"no image")
    result = run(images, small())
    assert result.details["num_test"] == 11
    assert any("left out 1 unreadable test images" in text for text in result.warnings)
    (images / "val" / "cat" / "cat_0.png").write_bytes(b"no image")
    with pytest.raises(PreflightError, match="2 images cannot be read, more than"):
        run(images, small(), folder="other")


def test_few_labels_are_those_of_the_list_or_a_share_of_each_class(images, run):
    one = run(images, small(labels=0.5))
    assert "12 of images/train, labels: seed 0" in one.details["images"]
    names = [f"{c}_{i}.png" for c in ("ant", "bee", "cat", "dog", "elk") for i in (0, 1)]
    (images / "50percent.txt").write_text("\n".join(names))
    other = run(images, small(labels=0.5), folder="listed")
    assert "10 of images/train, labels: 50percent.txt" in other.details["images"]
    (images / "50percent.txt").write_text("nobody.png")
    with pytest.raises(PreflightError, match=r"of which 1 are not in train \(nobody\)"):
        run(images, small(labels=0.5), folder="wrong")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (small(blocks=5), "5 blocks are to be trained, and this backbone has 4"),
        (small(labels=0.2), "There are 6 images, fewer than a batch of 8"),
    ],
)
def test_what_cannot_be_is_said(images, run, config, sentence):
    with pytest.raises(UserError, match=sentence):
        run(images, config)


@pytest.mark.parametrize(
    ("tune", "sentence"),
    [
        ({"blocks": 1.5}, "tune.blocks: 1.5 is not supported; use a whole number, 0.5 for the MLP"),
        ({"pooling": "max"}, 'tune.pooling: "max" is not supported; use "pooled" or "mean"'),
        (
            {"ema_momentum": 1.0},
            "ema_momentum: 1.0 is not supported; use a number of .* below 1",
        ),
    ],
)
def test_impossible_values_are_refused(tune, sentence):
    with pytest.raises(UserError, match=sentence):
        small(**tune).resolved()


def test_an_optimizer_that_cannot_be_is_refused():
    config = small()
    with pytest.raises(
        UserError, match=r"optim\.weight_decay: -5\.0 is not supported; use a number of at"
    ):
        replace(config, optim=replace(config.optim, weight_decay=-5.0)).resolved()


def test_a_partial_fine_tuning_draws_its_curve_and_goes_on_where_it_stopped(images, run, tmp_path):
    own = small()
    shared = {name: getattr(own, name) for name in ("data", "tune", "model", "optim", "schedule")}
    config = replace(partial_mini(), blocks=(0.0, 0.5, 1.0, -1.0), **shared)
    whole = run(images, config, task="partial")
    assert whole.curves["blocks"] == [0.0, 0.5, 1.0, 4.0]
    metrics = dict(whole.metrics)
    assert metrics.pop("partial4_top1") is None
    assert whole.unmeasured == "this number of blocks was not trained"
    assert set(metrics.values()) == set(whole.curves["top1"])
    assert [path.name for path in whole.files] == ["partial.png", "predictions.npz"]
    with Image.open(whole.files[0]) as curve:
        assert curve.size == (750, 480)
    kept = np.load(whole.files[1])
    assert {f"rank/partial{n}" for n in ("0", "_half", "1", "_all")} <= set(kept.files)
    with pytest.raises(StoppedError):
        run(images, config, Ears(stop_after=10), folder="again", task="partial")
    assert run(images, config, folder="again", task="partial").metrics == whole.metrics
    # The last block alone, in a run of its own, is the same training.
    assert (
        run(images, config.of(1.0), folder="one").metrics["finetune_top1"]
        == (whole.metrics["partial1_top1"])
    )


def test_points_that_a_backbone_does_not_have_are_left_out():
    config = partial_mini()
    assert replace(config, blocks=(0.0, 2.0, 4.0, 12.0)).numbers(4) == [0.0, 2.0, -1.0]
    assert replace(config, blocks=(0.0, 1.0)).numbers(4) == [0.0, 1.0]
    assert partial().numbers(24) == [0, 0.5, 1, 2, 4, 6, 12, 18, -1]
    for blocks in ((), (1.0, 1.0), (0.25,)):
        with pytest.raises(UserError, match=r"^blocks: .* use a list of at least 1 value"):
            replace(config, blocks=blocks).resolved()


def look(config, **values):
    data = replace(config.data, img_size=16, resize_to=18, max_corrupt=1)
    extraction = replace(config.extraction, batch_size=5)
    return replace(config, data=data, extraction=extraction, look=replace(config.look, **values))


@pytest.mark.parametrize("task", ["correspondence", "attention"])
def test_regions_are_looked_at_in_the_images_that_can_be_read(images, run, task):
    config = look(correspondence_mini() if task == "correspondence" else attention_mini())
    assert run(images, config, task=task).details["num_test"] == 12
    (images / "val" / "bee" / "bee_1.png").write_bytes(b"no image")
    result = run(images, config, task=task, folder="again")
    assert result.details["num_test"] == 11
    assert any("left out 1 unreadable test images" in text for text in result.warnings)
    assert all(path.is_file() for path in result.files)
    with pytest.raises(StoppedError):
        run(images, config, Ears(stop_after=1), task=task, folder="stopped")
    few = run(images, look(config, num_images=4, num_pictures=0), task=task, folder="few")
    assert few.details["num_test"] == 4
    assert not any(path.name in ("correspondence.png", "attention-maps.png") for path in few.files)
    for path in (images / "val").glob("*/*"):
        path.write_bytes(b"no image")
    with pytest.raises(PreflightError, match="5 images cannot be read"):
        run(images, config, task=task, folder="none")


class Steps(Ears):
    """Remembers which batches were reported."""

    def __init__(self, stop_after=10**9):
        super().__init__(stop_after)
        self.steps = []

    def progress(self, event):
        self.steps.append(event.step)


@pytest.mark.parametrize("task", ["correspondence", "attention"])
def test_a_look_that_stopped_goes_on_behind_the_last_batch(images, run, task):
    config = look(correspondence_mini() if task == "correspondence" else attention_mini())
    (images / "val" / "ant" / "ant_0.png").write_bytes(b"no image")
    whole = run(images, config, task=task, folder="whole")
    with pytest.raises(StoppedError):
        run(images, config, Steps(stop_after=2), task=task, folder="parts")
    second = Steps()
    found = run(images, config, second, task=task, folder="parts")
    assert second.steps == [3]  # of three batches of five
    assert found.metrics == whole.metrics
    assert found.curves == whole.curves
    assert found.details == whole.details
    assert found.warnings == whole.warnings
    for one, other in zip(found.files, whole.files, strict=True):
        assert one.read_bytes() == other.read_bytes()
    with pytest.raises(UserError, match="holds the state of another run"):
        run(images, look(config, num_images=4), task=task, folder="parts")


def test_batches_do_not_change_what_regions_come_to(images, run):
    one = run(images, look(correspondence_mini()), task="correspondence")
    other = replace(look(correspondence_mini()), extraction=ExtractionConfig(batch_size=12))
    again = run(images, other, task="correspondence", folder="again")
    assert again.metrics == pytest.approx(one.metrics)


def test_a_network_without_attention_or_mlps_has_no_such_numbers(images, run):
    result = run(images, look(attention_mini()), task="attention", name="resnet-nano")
    assert result.unmeasured == "no attention that is known in this network"
    assert set(result.metrics.values()) == {None}
    assert "can be looked at in plain ViTs and in Swins" in result.warnings[0]
    shared = {name: getattr(small(), name) for name in ("data", "tune", "model", "schedule")}
    data = replace(shared["data"], img_size=32, resize_to=36)
    config = replace(partial_mini(), **{**shared, "data": data})
    found = run(images, replace(config, blocks=(0.0, 0.5)), task="partial", name="resnet-nano")
    assert found.curves["blocks"] == [0.0]
    with pytest.raises(UserError, match="has none of the points in blocks"):
        run(images, replace(config, blocks=(0.5,)), task="partial", name="resnet-nano")


def launch(images, out, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.launched_finetune", images, out],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_come_to_what_one_does(images, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = [launch(images, tmp_path / "one")]
    processes += [
        launch(images, tmp_path / "two", WORLD_SIZE="2", RANK=rank, LOCAL_RANK=rank, **group)
        for rank in "01"
    ]
    found = []
    for process in processes:
        words, text = process.communicate(timeout=300)
        assert process.returncode == 0, text
        found.append(json.loads(words))
    (metrics, losses), *both = found
    for theirs, their_losses in both:
        assert theirs == metrics
        assert their_losses == pytest.approx(losses, rel=1e-4)
