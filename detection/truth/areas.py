"""Stated areas held against masks and boxes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pycocotools.mask as rle_tools

from detection.data.findings import BAD_AREA, OTHER_AREA, STOPGAP_AREA, Mending
from detection.data.segmentation import segmentation_area
from detection.truth.causes import MANY, look_like_placeholders
from detection.truth.polygons import area_of

Floats = npt.NDArray[np.float64]
# A pair of an object's annotation and its image.
Object = tuple[dict[str, Any], dict[str, Any]]

# An area may differ from that of its mask by this factor and this many pixels, so little does
# COCO's border between small and medium objects depend on it; one that exceeds its box by a fifth
# measures something else, and so does one of less than a hundredth of its box.
_AREA_FACTOR = 4.0
_AREA_PIXELS = 16.0
_AREA_BEYOND_BOX = 1.2
_AREA_OF_BOX = 0.01
# From this share of doubtful areas on none is trusted.
_PLACEHOLDERS = 0.1
# Share of areas that one factor explains, how far each may be from it, and how far it is from 1.
_MOSTLY = 0.9
_ALIKE = 0.05
_NEARLY_ONE = 0.1
# Areas of images that were scaled are off by one factor: their median leaves this range. Areas that
# are width times height to a hundredth are those of boxes, which some tools write next to masks.
_USUAL_RATIO = (0.7, 1.4)
_BOX_SHARE = 0.01


def compare_areas(
    objects: Sequence[Object], areas: Sequence[Any], uncut: Floats, mending: Mending
) -> None:
    """Give every annotation an area that its mask and box allow.

    Args:
        objects: All annotations, each with its image; they get their ``area``.
        areas: As in the file, None where there is none.
        uncut: (N, 4) boxes x, y, width, height before they were clipped, which the areas measure.
        mending: Hears of each that was computed.
    """
    stated = np.array([_number(area) for area in areas], dtype=np.float64)
    boxes = uncut
    absent = ~np.isfinite(stated) | (stated < 0)
    counting = np.array([not a["iscrowd"] for a, _ in objects], dtype=bool) & ~absent
    masks = np.array([mask_area(a["segmentation"]) if "segmentation" in a else math.nan
                      for a, _ in objects], dtype=np.float64)  # fmt: skip
    doubtful = counting & _doubtful(masks, stated, boxes)
    if _are_of_another_scale(masks, stated, boxes, counting):
        doubtful |= counting
    factor = _common_factor(masks, stated, boxes, counting)
    if factor is not None:
        doubtful |= counting
        mending.warn(
            f"the areas are {factor:.3g} times those of masks and boxes, as if masks and boxes "
            "were made for images of another size; compare a few with their images"
        )
    if counting.any() and look_like_placeholders(stated[counting], boxes[counting]):
        doubtful |= counting
    if doubtful.sum() > _PLACEHOLDERS * max(1, counting.sum()):
        computed = np.ones(len(objects), dtype=bool)
        kind = STOPGAP_AREA if _are_placeholders(stated[doubtful]) else OTHER_AREA
    else:
        computed, kind = absent | doubtful, BAD_AREA
    for at, (annotation, image) in enumerate(objects):
        annotation["area"] = float(stated[at])
        if computed[at]:
            mending.mended(BAD_AREA if absent[at] else kind, annotation["id"])
        elif not counting[at] or not _cut_too_large(annotation, stated[at]):
            continue
        annotation["area"] = _computed(annotation, image)


def _are_placeholders(doubtful: Floats) -> bool:
    """Return whether (N,) areas that cannot be right are few numbers or shares of something."""
    values = len(np.unique(doubtful))
    return values <= max(3, _PLACEHOLDERS * len(doubtful)) or bool(doubtful.max() <= 1)


def _cut_too_large(annotation: dict[str, Any], area: float) -> bool:
    """Return whether an area is that of a box before it was clipped, far above what is left."""
    left = annotation["bbox"][2] * annotation["bbox"][3]
    return "segmentation" not in annotation and area > _AREA_BEYOND_BOX * left + _AREA_PIXELS


def _are_of_another_scale(
    masks: Floats, stated: Floats, boxes: Floats, counting: npt.NDArray[np.bool_]
) -> bool:
    """Return whether (N,) areas are those of masks times a factor, as of images that were scaled.

    Args:
        masks: (N,) areas of masks, NaN without one.
        stated: (N,) areas in the file.
        boxes: (N, 4) x, y, width, height.
        counting: (N,) whether an area is known and that of no crowd.
    """
    sizes = boxes[:, 2:].prod(axis=1)
    of_box = np.abs(stated - sizes) <= _BOX_SHARE * sizes
    # The border of a small mask is a large part of it, and tools draw it differently.
    used = counting & (stated > 0) & ~of_box & (masks > _AREA_PIXELS)
    if used.sum() < max(MANY, counting.sum() / 2):
        return False
    low, high = _USUAL_RATIO
    return not low <= float(np.median(stated[used] / masks[used])) <= high


def _common_factor(
    masks: Floats, stated: Floats, boxes: Floats, counting: npt.NDArray[np.bool_]
) -> float | None:
    """Return the one factor between (N,) areas and what they measure; None where none is or 1.

    Args:
        masks: (N,) areas of masks, NaN without one.
        stated: (N,) areas in the file.
        boxes: (N, 4) x, y, width, height, whose areas count where there are no masks.
        counting: (N,) whether an area is known and that of no crowd.
    """
    sizes = boxes[:, 2:].prod(axis=1)
    measured = np.where(np.isnan(masks), sizes, masks)
    of_box = np.abs(stated - sizes) <= _BOX_SHARE * sizes
    used = counting & (stated > 0) & ~of_box & (measured > _AREA_PIXELS)
    if used.sum() < max(MANY, counting.sum() / 2):
        return None
    ratios = stated[used] / measured[used]
    factor = float(np.median(ratios))
    alike = np.abs(ratios - factor) <= _ALIKE * factor
    is_one = abs(factor - 1) <= _NEARLY_ONE
    return None if is_one or alike.mean() < _MOSTLY else factor


def _doubtful(masks: Floats, stated: Floats, boxes: Floats) -> npt.NDArray[np.bool_]:
    """Return which of (N,) stated areas the masks or the (N, 4) boxes do not allow, (N,)."""
    sizes = boxes[:, 2:].prod(axis=1)
    low = np.where(np.isnan(masks), _AREA_OF_BOX * sizes, masks / _AREA_FACTOR - _AREA_PIXELS)
    high = np.where(np.isnan(masks), _AREA_BEYOND_BOX * sizes, masks * _AREA_FACTOR) + _AREA_PIXELS
    nothing = (stated == 0) & (sizes > 1)
    with np.errstate(invalid="ignore"):
        return np.asarray((stated < low) | (stated > high) | nothing)


def mask_area(segmentation: Any) -> float:
    """Return the area of polygons by arithmetic, or the number of pixels of a run-length mask."""
    if isinstance(segmentation, list):
        return area_of(segmentation)
    return float(rle_tools.area(segmentation))


def _computed(annotation: dict[str, Any], image: dict[str, Any]) -> float:
    if "segmentation" in annotation:
        return segmentation_area(annotation["segmentation"], image["height"], image["width"])
    return float(annotation["bbox"][2] * annotation["bbox"][3])


def _number(area: Any) -> float:
    plain = isinstance(area, int | float) and not isinstance(area, bool)
    return float(area) if plain else math.nan
