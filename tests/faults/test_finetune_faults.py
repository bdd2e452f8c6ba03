"""Fine-tuning that is interrupted, or asked for what cannot be."""

from dataclasses import replace

import numpy as np
import pytest

from backbones.catalog import get_spec
from backbones.errors import PreflightError, StoppedError, UserError
from backbones.source import open_checkpoint
from benchmarks.data.roots import DataRoot
from benchmarks.imagenet.finetune_recipes import finetune_mini
from benchmarks.suites import get_task
from benchmarks.task import TaskInputs
from tests.faults.test_imagenet_faults import Ears, fill


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
    def call(root, config, monitor=None, folder="work", task="finetune"):
        inputs = TaskInputs(
            backbone=get_spec("vit-nano"),
            checkpoint=open_checkpoint("vit-nano", None),
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
        ({"blocks": 1.5}, "tune.blocks must be a whole number, 0.5 for the MLP"),
        ({"pooling": "max"}, "tune.pooling must be one of pooled, mean"),
        ({"ema_momentum": 1.0}, r"tune.ema_momentum must lie in \[0, 1\)"),
    ],
)
def test_impossible_values_are_refused(tune, sentence):
    with pytest.raises(UserError, match=sentence):
        small(**tune).resolved()
