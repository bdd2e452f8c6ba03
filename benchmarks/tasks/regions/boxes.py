"""The boxes that a region probe pools: objects, background, and displaced copies of objects.

All boxes are xyxy in pixels of the image file. Their draws depend on (seed, image id) only, so
neither the order of images nor the batch size changes them.
"""

from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.tasks.regions.recipes import BoxesConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# COCO's limits of small and medium objects, in square pixels of the image file
# (pycocotools ``Params.areaRng``).
SMALL_BELOW = 32.0**2
MEDIUM_BELOW = 96.0**2
SIZES = ("small", "medium", "large")
# Draws of a background box before the image is left with fewer of them.
_TRIES = 50
# Shares of an image's sides that a background box may have; COCO's objects rarely exceed them.
_BACKGROUND_SIDES = (0.1, 0.6)


@dataclass(frozen=True)
class ImageBoxes:
    """The boxes of one image; N objects, J copies of each, M background boxes (M <= N).

    Attributes:
        objects: (N, 4) annotated boxes without crowds.
        labels: (N,) class indices from 0.
        sizes: (N,) index into ``SIZES``, by the annotated area.
        jittered: (N, J, 4) displaced copies.
        background: (M, 4) boxes that overlap no annotation by more than the recipe allows.
    """

    objects: Floats
    labels: Ints
    sizes: Ints
    jittered: Floats
    background: Floats


def boxes_of(sample: dict[str, Any], config: BoxesConfig, seed: int) -> ImageBoxes:
    """Return the boxes of an image.

    Args:
        sample: A dataset dict (``detection.data.dataset``); at least one object is not a crowd.
        config: Says how boxes are drawn.
        seed: Of the run.
    """
    objects = [a for a in sample["annotations"] if not a["iscrowd"]]
    boxes = _xyxy(objects)
    everything = _xyxy(sample["annotations"])
    areas = np.array([float(a["area"]) for a in objects])
    random = Random(f"regions {seed} {sample['image_id']}")
    width, height = float(sample["width"]), float(sample["height"])
    jittered = [
        [_displaced(box, config, random, width, height) for _ in range(config.jitters)]
        for box in boxes
    ]
    background = [
        box
        for box in (_background(everything, config, random, width, height) for _ in objects)
        if box is not None
    ]
    return ImageBoxes(
        objects=boxes,
        labels=np.array([a["category_id"] for a in objects], dtype=np.int64),
        sizes=(areas >= SMALL_BELOW).astype(np.int64) + (areas >= MEDIUM_BELOW),
        jittered=np.array(jittered, dtype=np.float64).reshape(len(boxes), config.jitters, 4),
        background=np.array(background, dtype=np.float64).reshape(-1, 4),
    )


def offsets(boxes: Floats, targets: Floats) -> Floats:
    """Return what moves boxes onto targets: (dx / w, dy / h, log w ratio, log h ratio), (N, 4).

    The parametrisation is R-CNN's (Girshick et al. 2014, appendix C), without its weights.

    Args:
        boxes: (N, 4) xyxy, with positive sides.
        targets: (N, 4) xyxy, with positive sides.
    """
    centre, sides = _centre_and_sides(boxes)
    target_centre, target_sides = _centre_and_sides(targets)
    shift = (target_centre - centre) / sides
    return np.concatenate([shift, np.log(target_sides / sides)], axis=1)


def moved(boxes: Floats, by: Floats) -> Floats:
    """Return (N, 4) boxes after (N, 4) offsets; the inverse of ``offsets``.

    Sides grow by a factor of 64 at most, so that a bad prediction stays finite.
    """
    centre, sides = _centre_and_sides(boxes)
    centre = centre + by[:, :2] * sides
    half = sides * np.exp(np.minimum(by[:, 2:], np.log(64.0))) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def paired_iou(first: Floats, second: Floats) -> Floats:
    """Return the IoU of each pair of (N, 4) boxes, (N,)."""
    inner = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    overlap = np.prod(np.maximum(inner, 0.0), axis=1)
    areas = np.prod(first[:, 2:] - first[:, :2], axis=1)
    areas = areas + np.prod(second[:, 2:] - second[:, :2], axis=1)
    shares: Floats = overlap / (areas - overlap)
    return shares


def _xyxy(annotations: list[dict[str, Any]]) -> Floats:
    """Return the boxes of annotations, which hold xywh (COCO), as xyxy, (N, 4)."""
    boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _displaced(
    box: Floats, config: BoxesConfig, random: Random, width: float, height: float
) -> list[float]:
    """Return a displaced copy of a (4,) xyxy box, cut at the image's border."""
    sides = box[2:] - box[:2]
    centre = (box[2:] + box[:2]) / 2
    shift = [random.uniform(-config.shift, config.shift) for _ in range(2)]
    grow = [np.exp(random.uniform(-config.scale, config.scale)) for _ in range(2)]
    middle = centre + np.array(shift) * sides
    half = sides * np.array(grow) / 2
    low, high = middle - half, middle + half
    limits = np.array([width, height])
    inside_low, inside_high = np.clip(low, 0, limits), np.clip(high, 0, limits)
    # A copy of a box at the border may fall outside; the box itself takes its place.
    if np.any(inside_high - inside_low < 0.25 * sides):
        inside_low, inside_high = box[:2], box[2:]
    return [*inside_low, *inside_high]


def _background(
    taken: Floats, config: BoxesConfig, random: Random, width: float, height: float
) -> list[float] | None:
    """Return a box that overlaps none of (N, 4) by more than allowed; None if none was found."""
    for _ in range(_TRIES):
        w, h = (random.uniform(*_BACKGROUND_SIDES) * side for side in (width, height))
        x, y = random.uniform(0, width - w), random.uniform(0, height - h)
        box = np.array([[x, y, x + w, y + h]])
        if paired_iou(np.repeat(box, len(taken), axis=0), taken).max() <= config.background_iou:
            return [x, y, x + w, y + h]
    return None


def _centre_and_sides(boxes: Floats) -> tuple[Floats, Floats]:
    """Return the centres and the sides of (N, 4) xyxy boxes, (N, 2) each."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
