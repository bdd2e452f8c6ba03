"""Our mapper against detectron2's DatasetMapper with the same drawn parameters."""

import copy
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pycocotools.mask as rle_tools
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from PIL import Image
from torch import Tensor

from detection.config import DetectionDataConfig
from detection.data.augmentation import Flip, Plan, Resize, apply_to_image, draw_plan, source_pixels
from detection.data.dataset import find_coco, load_split
from detection.data.mapper import apply_plan
from detection.data.pixels import read_image

REAL = {
    "lsj": DetectionDataConfig(),
    "multiscale": DetectionDataConfig(augmentation="multiscale", short_sides=(480, 640, 800)),
    "crop": DetectionDataConfig(augmentation="multiscale-crop", short_sides=(480, 640, 800)),
}
SMALL = {
    "lsj": DetectionDataConfig(img_size=128),
    "multiscale": DetectionDataConfig(augmentation="multiscale", short_sides=(80, 200, 300)),
    "crop": DetectionDataConfig(
        augmentation="multiscale-crop",
        short_sides=(80, 200, 300),
        crop_short_sides=(120, 160),
        crop_range=(90, 140),
    ),
}


def detectron2_transforms(plan: Plan) -> list[T.Transform]:
    transforms: list[T.Transform] = []
    for step in plan:
        if isinstance(step, Flip):
            transforms.append(T.HFlipTransform(step.width))
        elif isinstance(step, Resize):
            size = (step.height, step.width, step.new_height, step.new_width)
            transforms.append(T.ResizeTransform(*size))
        else:
            transforms.append(T.CropTransform(step.left, step.top, step.width, step.height))
    return transforms


def both(sample: dict[str, Any], plan: Plan, tight: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    image = read_image(sample["file_name"], sample["height"], sample["width"])
    ours = apply_plan(sample, image, plan, tight_boxes=tight)
    mapper = DatasetMapper(
        is_train=True,
        augmentations=detectron2_transforms(plan),
        image_format="RGB",
        use_instance_mask=True,
        instance_mask_format="bitmask",
        recompute_boxes=tight,
    )
    return ours, mapper(copy.deepcopy(sample))


@pytest.fixture
def samples(tmp_path: Path) -> list[dict[str, Any]]:
    """Smooth photographs-like images with polygons and run lengths mixed."""
    made = []
    for number in range(6):
        rng = np.random.default_rng(number)
        height, width = rng.integers(90, 260, 2).tolist()
        noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        path = tmp_path / f"{number}.png"
        noise.resize((width, height), Image.Resampling.BICUBIC).save(path)
        annotations = [_object(rng, height, width, index) for index in range(8)]
        made.append(
            {
                "file_name": str(path),
                "image_id": number,
                "height": height,
                "width": width,
                "annotations": annotations,
            }
        )
    return made


def _object(rng: np.random.Generator, height: int, width: int, index: int) -> dict[str, Any]:
    """Make a star-shaped object; every other one as run lengths."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
    radius = rng.uniform(8, 30, 12)
    center = rng.uniform(0.25, 0.75, 2) * (width, height)
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None] + center
    polygon = points.clip(0, (width, height)).round(2).reshape(-1).tolist()
    rle = rle_tools.merge(rle_tools.frPyObjects([polygon], height, width))
    x, y, w, h = rle_tools.toBbox(rle).tolist()
    return {
        "bbox": [x, y, w, h],
        "bbox_mode": 1,
        "category_id": index % 3,
        "iscrowd": 0,
        "segmentation": rle if index % 2 else [polygon],
    }


def assert_equal_images(ours: Tensor, theirs: Tensor) -> None:
    """Equal but for ties between two grey levels, which fall to either side.

    Pillow takes the corners of a crop in single precision, and at many scales the weights of a
    bilinear resize are such that ties are frequent.
    """
    difference = ours.float() - theirs.float()
    assert difference.abs().max() <= 2
    assert difference.abs().mean() < 0.25
    assert difference.mean().abs() < 0.1


def assert_equal_masks(ours: Tensor, theirs: Tensor) -> None:
    """Equal but for border pixels.

    detectron2 cuts polygons with shapely before it draws them, which moves points; and the
    rasteriser rounds ties of slanted lines by their distance to the image's corner.
    """
    wrong = (ours != theirs).flatten(1).sum(1)
    perimeter = 4 * theirs.flatten(1).sum(1).sqrt()
    assert (wrong <= 2 + 0.06 * perimeter).all()
    assert wrong.sum() <= 2 + 0.002 * theirs.sum()


@pytest.mark.parametrize("config", SMALL.values(), ids=SMALL)
def test_equal_results_on_mixed_encodings(
    samples: list[dict[str, Any]], config: DetectionDataConfig
) -> None:
    compare(samples, config, range(2))


@pytest.mark.slow
@pytest.mark.parametrize("config", REAL.values(), ids=REAL)
def test_equal_results_on_real_images(shared_data: Path, config: DetectionDataConfig) -> None:
    images = load_split(find_coco(shared_data / "coco-dev"), "train", limit_images=40)
    compare([image for image in images if image["annotations"]], config, range(1))


def compare(samples: list[dict[str, Any]], config: DetectionDataConfig, seeds: range) -> None:
    tight = config.augmentation != "multiscale"
    compared = 0
    for seed in seeds:
        for sample in samples:
            plan = draw_plan(config, sample["height"], sample["width"], Random(seed))
            try:
                ours, theirs = both(sample, plan, tight)
            except AttributeError:
                # detectron2's mapper cannot recompute boxes where no object is left.
                continue
            assert ours["image"].shape == theirs["image"].shape
            assert_equal_images(ours["image"], theirs["image"])
            ours, theirs = ours["instances"], theirs["instances"]
            assert ours.gt_classes.tolist() == theirs.gt_classes.tolist()
            assert (ours.gt_boxes.tensor - theirs.gt_boxes.tensor).abs().max() <= 1
            if not tight:
                assert torch.allclose(ours.gt_boxes.tensor, theirs.gt_boxes.tensor, atol=1e-3)
            assert_equal_masks(ours.gt_masks.to_bitmasks().tensor, theirs.gt_masks.tensor)
            compared += 1
    assert compared


def test_a_resize_without_crop_is_exact(samples: list[dict[str, Any]]) -> None:
    for sample in samples:
        plan = (Flip(sample["width"]), Resize(sample["height"], sample["width"], 333, 201))
        ours, theirs = both(sample, plan, tight=False)
        assert torch.equal(ours["image"], theirs["image"])
        lengths = [isinstance(a["segmentation"], dict) for a in sample["annotations"]]
        mine = ours["instances"].gt_masks.to_bitmasks().tensor[lengths]
        assert torch.equal(mine, theirs["instances"].gt_masks.tensor[lengths])


def test_nearest_pixels_are_pillows(samples: list[dict[str, Any]]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        old, new = rng.integers(1, 900, 2).tolist()
        row = np.arange(old, dtype=np.int32)[None]
        theirs = np.asarray(Image.fromarray(row).resize((new, 1), Image.Resampling.NEAREST))[0]
        _, ours = source_pixels((Resize(1, old, 1, new),), 1, old)
        assert (ours == theirs).all()


def test_plan_without_steps_changes_nothing(samples: list[dict[str, Any]]) -> None:
    image = Image.open(samples[0]["file_name"])
    assert (np.asarray(apply_to_image((), image)) == np.asarray(image)).all()
