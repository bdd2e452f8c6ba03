"""Holding more or fewer images at once changes neither id nor protocol where it changes nothing."""

import pytest

from backbones.base.errors import UserError
from backbones.base.sections import as_plain
from backbones.catalog import get_spec
from benchmarks import cli
from benchmarks.overrides import apply_overrides, overrides_outside_identity
from benchmarks.plan.how import without_effect
from benchmarks.suites import get_task

BY_RECIPE, HELD = "schedule.batch_size_per_device", "schedule.micro_batch"


def translated(task, recipe, network, *overrides):
    named = get_task(task).recipes()[recipe]()
    texts = without_effect(get_task(task), named, get_spec(network), overrides)
    return named, texts


@pytest.mark.parametrize(
    ("task", "recipe", "network", "images"),
    [
        ("pretrain", "mae-vit-b16-800ep", "vit-b16", 256),
        ("pretrain", "mae-vit-b16-800ep", "vit-b16", 1),
        ("pretrain", "dino-vit-s16-100ep", "vit-s16", 8),
        ("pretrain", "esvit-swin-t-300ep", "swin-t", 64),
        ("finetune", "finetune-vit-b16", "vit-b16", 128),
        ("coco", "vitdet-12ep", "vit-b16", 8),
        ("coco", "small", "vit-nano", 4),
    ],
)
def test_what_changes_no_result_keeps_id_and_protocol(task, recipe, network, images):
    named, texts = translated(task, recipe, network, f"{BY_RECIPE}={images}", "optim.base_lr=1")
    assert texts == [f"{HELD}={images}", "optim.base_lr=1"]
    config = apply_overrides(named, texts[:1])
    assert as_plain(config) == as_plain(named)
    assert overrides_outside_identity(named, texts) == (f"{HELD}={images}",)


@pytest.mark.parametrize(
    ("task", "recipe", "network", "images"),
    [
        # Losses are averaged over two images, mixup's partners are among 64.
        ("coco", "small", "vit-nano", 1),
        ("finetune", "finetune-vit-b16", "vit-b16", 32),
        # Images are padded to the largest of a micro-batch; batch norms; shared windows.
        ("coco", "swin-1x", "swin-t", 4),
        ("coco", "mini", "resnet-nano", 2),
        ("pretrain", "simmim-nano", "cvt-nano", 8),
    ],
)
def test_what_changes_results_is_another_protocol(task, recipe, network, images):
    named, texts = translated(task, recipe, network, f"{BY_RECIPE}={images}")
    assert texts == [f"{BY_RECIPE}={images}"]
    assert "+custom:" in apply_overrides(named, texts).protocol
    with pytest.raises(UserError, match=rf"^{HELD}: {images} is not supported for {network}; use "):
        translated(task, recipe, network, f"{HELD}={images}")


def test_a_batch_that_the_recipes_number_does_not_divide_keeps_both_in_its_id():
    texts = ["schedule.batch_size=32", f"{BY_RECIPE}=8"]
    assert translated("pretrain", "mae-vit-b16-800ep", "vit-b16", *texts)[1] == texts


def test_a_number_that_does_not_divide_the_batch_is_refused():
    with pytest.raises(
        UserError, match=r"3 is not supported; use a divisor of .*batch_size \(16\)"
    ):
        translated("pretrain", "mae-nano", "vit-nano", f"{BY_RECIPE}=3")


@pytest.mark.parametrize("key", [BY_RECIPE, HELD])
def test_images_that_are_compared_have_a_setting_of_their_own(key):
    with pytest.raises(UserError, match=r"mocov3 compares .* its share of 64.*model\.compared=N"):
        translated("pretrain", "mocov3-nano", "vit-nano", f"{key}=16")
    named, texts = translated("pretrain", "mocov3-nano", "vit-nano", "model.compared=16")
    assert "+custom:" in apply_overrides(named, texts).protocol
    with pytest.raises(UserError, match=r"model\.compared: 24 .* divisor of schedule\.batch_size"):
        get_task("pretrain").check(apply_overrides(named, ["model.compared=24"]))


def test_a_backbone_that_is_set_is_the_one_that_is_planned(tmp_path, capsys):
    words = ["pretrain", "mae-nano", "--set", "backbone=swin-nano", "--dry-run", "--out", tmp_path]
    assert cli.main(list(map(str, words))) == 0
    assert "pretrain mae-nano, swin-nano: 16 images a step" in capsys.readouterr().out
