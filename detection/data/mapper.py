"""One image's way from its dataset dict to what the detector takes."""

from random import Random
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import Tensor

from backbones.base.reading import reading
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
from detection.data.pixels import pixels_of

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
    with reading(f"{sample['file_name']} with its annotations"):
        image = pixels_of(sample)
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
    with reading(sample["file_name"]):
        image = pixels_of(sample)
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
