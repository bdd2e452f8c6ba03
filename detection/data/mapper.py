"""One image's way from its dataset dict to what the detector takes."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import Tensor

from backbones.base.errors import PreflightError
from backbones.base.images import open_stored, to_rgb, turn
from detection.config import DetectionDataConfig, EvaluationConfig
from detection.data.augmentation import (
    Plan,
    Points,
    Resize,
    apply_to_image,
    apply_to_points,
    draw_plan,
    resize_short_side,
)
from detection.data.masks import transform_masks


def read_image(path: Path | str, height: int, width: int) -> Image.Image:
    """Decode an image to RGB, upright, at the size that the annotations state.

    The EXIF orientation is applied, as detectron2 does. Where only the stored, unturned pixels
    have the stated size, the annotations were made on those, and they are used.

    Args:
        path: The file; grey, palette, CMYK, 16-bit and transparent images become RGB.
        height: Stated by the annotations, in pixels.
        width: Stated by the annotations, in pixels.

    Raises:
        PreflightError: The file is absent, damaged, no image, or of another size.
    """
    try:
        stored = open_stored(Path(path).read_bytes())
        upright = turn(stored)
        for image in (upright, stored):
            if image.size == (width, height):
                return to_rgb(image)
    except FileNotFoundError as error:
        raise PreflightError(f"The image {path} is missing.") from error
    except (OSError, ValueError) as error:
        raise PreflightError(
            f"The image {path} cannot be decoded ({error}); replace the file."
        ) from error
    raise PreflightError(
        f"The image {path} has {upright.width} x {upright.height} pixels, but its annotations "
        f"say {width} x {height}; the file or the annotations belong to another data set."
    )


# As detectron2's filter_empty_instances: a side of this many pixels is no box.
_SMALLEST_SIDE = 1e-5


def map_train(
    sample: dict[str, Any], config: DetectionDataConfig, random: Random
) -> dict[str, Any]:
    """Load, vary and annotate one training image.

    Args:
        sample: A dataset dict (``detection.data.dataset``).
        config: How images are varied.
        random: Generator of this sample alone.

    Returns:
        ``file_name``, ``image_id``, ``height``, ``width``, ``image`` (3, h, w) uint8 RGB and
        ``instances`` with ``gt_boxes`` (xyxy pixels), ``gt_classes`` and, where the data has
        masks, ``gt_masks``. Crowds and objects that the crop left nothing of are not in it.

    Raises:
        PreflightError: The image cannot be used; names the file.
    """
    image = read_image(sample["file_name"], sample["height"], sample["width"])
    plan = draw_plan(config, sample["height"], sample["width"], random)
    return apply_plan(sample, image, plan, tight_boxes=config.augmentation != "multiscale")


def apply_plan(
    sample: dict[str, Any], image: Image.Image, plan: Plan, *, tight_boxes: bool
) -> dict[str, Any]:
    """Vary an image and its annotations by a given plan.

    Args:
        sample: A dataset dict.
        image: Its image, RGB.
        plan: The steps.
        tight_boxes: Take boxes from the masks that the plan leaves, as ViTDet does after its
            crop; without masks, or if false, boxes are the old ones moved and clipped.
    """
    image = apply_to_image(plan, image)
    objects = [a for a in sample["annotations"] if not a["iscrowd"]]
    instances = Instances((image.height, image.width))
    boxes = _move_boxes(objects, plan, image)
    instances.gt_classes = torch.tensor([a["category_id"] for a in objects], dtype=torch.int64)
    keep = torch.ones(len(objects), dtype=torch.bool)
    if _has_masks(objects):
        instances.gt_masks = transform_masks(
            [a["segmentation"] for a in objects],
            plan,
            (sample["height"], sample["width"]),
            (image.height, image.width),
        )
        keep = instances.gt_masks.nonempty()
        if tight_boxes:
            boxes = instances.gt_masks.get_bounding_boxes()
    instances.gt_boxes = boxes
    keep &= boxes.nonempty(threshold=_SMALLEST_SIDE)
    return {**_identity(sample), "image": to_tensor(image), "instances": instances[keep]}


def map_test(sample: dict[str, Any], config: EvaluationConfig) -> dict[str, Any]:
    """Load one image at test size, with the ``height`` and ``width`` to map detections back to.

    Args:
        sample: A dataset dict.
        config: Resolved, so with its sizes filled in.

    Raises:
        PreflightError: The image cannot be used; names the file.
    """
    image = read_image(sample["file_name"], sample["height"], sample["width"])
    plan: tuple[Resize, ...] = (
        resize_short_side(image.height, image.width, config.short_side, config.max_size),
    )
    return {**_identity(sample), "image": to_tensor(apply_to_image(plan, image))}


def to_tensor(image: Image.Image) -> Tensor:
    """Return an RGB image as (3, h, w) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _move_boxes(objects: list[dict[str, Any]], plan: Plan, image: Image.Image) -> Boxes:
    corners: Points = np.array([a["bbox"] for a in objects], dtype=np.float64).reshape(-1, 2, 2)
    corners[:, 1] += corners[:, 0]
    corners = apply_to_points(plan, corners.reshape(-1, 2)).reshape(-1, 2, 2)
    # A flip swaps left and right.
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    limits = (image.width, image.height, image.width, image.height)
    return Boxes(torch.from_numpy(boxes.clip(0, limits)).float())


def _has_masks(objects: list[dict[str, Any]]) -> bool:
    return bool(objects) and all("segmentation" in a for a in objects)


def _identity(sample: dict[str, Any]) -> dict[str, Any]:
    return {key: sample[key] for key in ("file_name", "image_id", "height", "width")}
