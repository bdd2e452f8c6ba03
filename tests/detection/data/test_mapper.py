from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detection.config import DetectionDataConfig, EvaluationConfig
from detection.data.augmentation import Crop, Flip, Resize, draw_plan
from detection.data.dataset import find_coco, load_split
from detection.data.mapper import apply_plan, map_test, map_train

LSJ = DetectionDataConfig(img_size=128)
MULTISCALE = DetectionDataConfig(augmentation="multiscale", short_sides=(48, 64, 80), max_size=120)
CROPPED = DetectionDataConfig(
    augmentation="multiscale-crop",
    short_sides=(48, 64, 80),
    max_size=120,
    crop_short_sides=(50, 60),
    crop_range=(30, 45),
)


@pytest.fixture
def sample(write_coco: Callable[..., Path]) -> dict[str, Any]:
    return load_split(find_coco(write_coco()), "train")[0]


@pytest.mark.parametrize("config", [LSJ, MULTISCALE, CROPPED], ids=lambda c: c.augmentation)
def test_train_sample_is_what_detectron2_takes(
    sample: dict[str, Any], config: DetectionDataConfig
) -> None:
    mapped = map_train(sample, config, Random(3))
    assert set(mapped) == {"file_name", "image_id", "height", "width", "image", "instances"}
    image, instances = mapped["image"], mapped["instances"]
    assert image.dtype == torch.uint8
    assert image.shape == (3, *instances.image_size)
    assert instances.gt_boxes.tensor.dtype == torch.float32
    assert instances.gt_classes.dtype == torch.int64
    assert len(instances) == len(instances.gt_masks) == len(instances.gt_boxes)


@pytest.mark.parametrize("config", [LSJ, MULTISCALE, CROPPED], ids=lambda c: c.augmentation)
def test_draws_depend_on_the_generator_alone(
    sample: dict[str, Any], config: DetectionDataConfig
) -> None:
    np.random.seed(1)  # noqa: NPY002 - detectron2 draws from it
    torch.manual_seed(1)
    first = map_train(sample, config, Random(5))
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(2)
    again = map_train(sample, config, Random(5))
    assert torch.equal(first["image"], again["image"])
    plans = {draw_plan(config, 48, 64, Random(seed)) for seed in range(20)}
    assert len(plans) > 5


def test_scale_jitter_spans_its_range_and_stays_in_the_square() -> None:
    scales, offsets, flips = [], set(), 0
    for seed in range(2000):
        plan = draw_plan(LSJ, 48, 64, Random(seed))
        flips += isinstance(plan[0], Flip)
        resize = next(step for step in plan if isinstance(step, Resize))
        scales.append(resize.new_width / 128)
        height, width = resize.new_height, resize.new_width
        if isinstance(plan[-1], Crop):
            crop = plan[-1]
            offsets.add((crop.left > 0, crop.top > 0))
            assert crop.left + crop.width <= width
            assert crop.top + crop.height <= height
            height, width = crop.height, crop.width
        assert max(height, width) <= 128
    assert 0.1 <= min(scales) < 0.13
    assert 1.97 < max(scales) <= 2.0
    assert abs(np.mean(scales) - 1.05) < 0.05
    assert 900 < flips < 1100
    assert (True, True) in offsets


def test_multiscale_takes_each_side_equally_often_and_bounds_the_long_one() -> None:
    sides = Counter()
    for seed in range(900):
        resize = draw_plan(MULTISCALE, 48, 64, Random(seed))[-1]
        assert isinstance(resize, Resize)
        sides[min(resize.new_height, resize.new_width)] += 1
        long = draw_plan(MULTISCALE, 20, 100, Random(seed))[-1]
        assert isinstance(long, Resize)
        assert long.new_width <= 120
    assert set(sides) == {48, 64, 80}
    assert min(sides.values()) > 240


def test_crop_branch_is_taken_half_the_time_within_its_range() -> None:
    crops = 0
    for seed in range(1000):
        for step in draw_plan(CROPPED, 48, 64, Random(seed)):
            if isinstance(step, Crop):
                crops += 1
                assert 30 <= step.height <= 45
                assert 30 <= step.width <= 45
    assert 430 < crops < 570
    # An image smaller than the range is taken whole.
    tiny = [s for seed in range(9) for s in draw_plan(CROPPED, 10, 400, Random(seed))]
    assert all(s.height <= 10 for s in tiny if isinstance(s, Crop))


def test_boxes_follow_masks_after_the_crop(sample: dict[str, Any]) -> None:
    image = Image.open(sample["file_name"])
    triangle = [10.0, 10.0, 40.0, 10.0, 10.0, 40.0]
    sample["annotations"] = [
        {"bbox": [10, 10, 30, 30], "category_id": 0, "iscrowd": 0, "segmentation": [triangle]}
    ]
    plan = (Crop(25, 0, 48, 39),)
    tight = apply_plan(sample, image, plan, tight_boxes=True)["instances"].gt_boxes.tensor
    loose = apply_plan(sample, image, plan, tight_boxes=False)["instances"].gt_boxes.tensor
    assert loose.tolist() == [[0, 10, 15, 40]]
    assert tight[0, 3] <= 26


def test_objects_left_outside_and_crowds_are_dropped(sample: dict[str, Any]) -> None:
    image = Image.open(sample["file_name"])
    outside = apply_plan(sample, image, (Crop(0, 0, 9, 9),), tight_boxes=True)["instances"]
    assert len(outside) == 0
    assert outside.gt_boxes.tensor.shape == (0, 4)
    sample["annotations"][0]["iscrowd"] = 1
    assert len(apply_plan(sample, image, (), tight_boxes=True)["instances"]) == 1
    sample["annotations"] = []
    empty = apply_plan(sample, image, (Flip(64),), tight_boxes=True)["instances"]
    assert len(empty) == 0
    assert empty.gt_classes.dtype == torch.int64


def test_boxes_only(write_coco: Callable[..., Path], coco_content: Callable[..., Any]) -> None:
    data = find_coco(write_coco(coco_content(masks=False)))
    instances = map_train(load_split(data, "train")[0], LSJ, Random(1))["instances"]
    assert not instances.has("gt_masks")
    flipped = apply_plan(
        load_split(data, "train")[0], Image.new("RGB", (64, 48)), (Flip(64),), tight_boxes=True
    )
    assert flipped["instances"].gt_boxes.tensor.tolist() == [[24, 10, 54, 30], [20, 10, 50, 30]]


def test_a_step_too_small_for_an_image_keeps_a_pixel(sample: dict[str, Any]) -> None:
    plan = draw_plan(DetectionDataConfig(img_size=32, scale_range=(0.1, 0.1)), 2, 2000, Random(0))
    resize = next(step for step in plan if isinstance(step, Resize))
    assert (resize.new_height, resize.new_width) == (1, 3)


def test_test_sample_has_its_size_and_no_annotations(sample: dict[str, Any]) -> None:
    config = EvaluationConfig(short_side=96, max_size=100)
    mapped = map_test(sample, config)
    assert set(mapped) == {"file_name", "image_id", "height", "width", "image"}
    assert mapped["image"].shape == (3, 75, 100)
    assert (mapped["height"], mapped["width"]) == (48, 64)
