"""Boxes of an annotation file: checked all at once, clipped, empty ones dropped."""

from typing import Any

import numpy as np
import numpy.typing as npt

from backbones.base.wording import quoted
from detection.data.findings import (
    BEYOND,
    CORNERS,
    NO_SIZE,
    OUTSIDE,
    SLIVERS,
    Mending,
    allowed,
)
from detection.truth.causes import SLACK, corners_by_area, misread_boxes

# COCO rounds boxes to 0.01 pixels, so an honest box may end just beyond its image.
TOLERANCE = SLACK

# detectron2's BoxMode.XYWH_ABS as a plain number, because importing it imports torch.
XYWH = 1

Rows = npt.NDArray[np.bool_]
Boxes = npt.NDArray[np.float64]


def mend_boxes(
    annotations: list[dict[str, Any]], images: dict[int, dict[str, Any]], mending: Mending
) -> tuple[list[dict[str, Any]], Boxes]:
    """Return the K annotations with valid boxes, clipped to their images, and (K, 4) unclipped.

    Args:
        annotations: As in the file; each of an image that exists.
        images: By id, with ``width`` and ``height``.
        mending: Hears of clipped and dropped boxes.

    Raises:
        PreflightError: A box is missing, not finite or negative in size, too many are useless, or
            all look misread.
    """
    if not annotations:
        return [], np.zeros((0, 4))
    boxes = _as_array(annotations, mending)
    owners = [images[annotation["image_id"]] for annotation in annotations]
    sides = np.array([(image["width"], image["height"]) for image in owners], dtype=np.float64)
    _refuse(annotations, _any(~np.isfinite(boxes)), "a box that is not finite", mending)
    _refuse(annotations, _any(boxes[:, 2:] < 0), "a box of negative width or height", mending)
    annotations, boxes = _read_corners(annotations, boxes, mending)
    cause = misread_boxes(boxes, sides)
    if cause:
        raise mending.fault(f"has boxes that cannot be right: {cause}")
    low, size = boxes[:, :2], boxes[:, 2:]
    high = low + size
    useless = _settle_useless(annotations, boxes, sides, mending)
    beyond = _any((low < -TOLERANCE) | (high > sides + TOLERANCE))
    corners, extents = np.maximum(low, 0), np.minimum(high, sides) - np.maximum(low, 0)
    kept = []
    for index, annotation in enumerate(annotations):
        if useless[index]:
            continue
        if beyond[index]:
            mending.mended(BEYOND, annotation["id"])
            clipped = [*corners[index].tolist(), *extents[index].tolist()]
            kept.append({**annotation, "bbox": clipped})
        else:
            kept.append(annotation)
    return kept, boxes[~useless]


def _read_corners(
    annotations: list[dict[str, Any]], boxes: Boxes, mending: Mending
) -> tuple[list[dict[str, Any]], Boxes]:
    """Return annotations and (N, 4) boxes, few that are two corners by their areas read as such.

    Raises:
        PreflightError: More of them than ``CORNERS`` allows.
    """
    found = corners_by_area(boxes, _areas(annotations))
    at = np.flatnonzero(found.flags).tolist()
    total = len(annotations)
    if not at or (not found.sure and len(at) <= allowed(CORNERS.share, total)):
        return annotations, boxes
    cause = (
        f"boxes look like xyxy in {len(at)} of {total} annotations (their areas are those of "
        "corners); COCO's are x, y, width, height"
    )
    mending.settle(CORNERS, [annotations[place]["id"] for place in at], total, cause=cause)
    boxes = boxes.copy()
    boxes[at, 2:] -= boxes[at, :2]
    mended = list(annotations)
    for place in at:
        mended[place] = {**annotations[place], "bbox": boxes[place].tolist()}
    return mended, boxes


def _settle_useless(
    annotations: list[dict[str, Any]], boxes: Boxes, sides: Boxes, mending: Mending
) -> Rows:
    """Return which (N, 4) boxes have nothing inside (N, 2) sides, (N,), after settling them."""
    low, size = boxes[:, :2], boxes[:, 2:]
    empty = _any(size == 0)
    outside = ~empty & _any((low >= sides) | (low + size <= 0))
    # Tools that cut or turn images leave such; they would show nothing anyway.
    gap = np.maximum(low - sides, -(low + size)).max(axis=1)
    slivers = outside & (size.min(axis=1) < TOLERANCE) & (gap <= TOLERANCE)
    for kind, wrong in ((NO_SIZE, empty), (SLIVERS, slivers), (OUTSIDE, outside & ~slivers)):
        at = np.flatnonzero(wrong)
        ids = [annotations[index]["id"] for index in at]
        first = quoted(annotations[at[0]]["bbox"]) if len(at) else ""
        mending.settle(kind, ids, len(annotations), first=first)
    return empty | outside


def _areas(annotations: list[dict[str, Any]]) -> npt.NDArray[np.float64]:
    """Return the areas of N annotations, (N,), NaN where there is none."""
    areas = [annotation.get("area") for annotation in annotations]
    return np.array([area if _is_number(area) else np.nan for area in areas], dtype=np.float64)


def _as_array(annotations: list[dict[str, Any]], mending: Mending) -> npt.NDArray[np.float64]:
    """Return the boxes of N annotations, (N, 4), or refuse one that is not four numbers."""
    for annotation in annotations:
        box = annotation.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise mending.fault(
                f"has annotation {annotation['id']} with the box {quoted(box)}, not four numbers"
            )
    return np.array([annotation["bbox"] for annotation in annotations], dtype=np.float64)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _any(wrong: Rows) -> Rows:
    """Return for each of (N, K) boxes whether any of its numbers is wrong, (N,)."""
    return np.asarray(wrong.any(axis=1))


def _refuse(annotations: list[dict[str, Any]], wrong: Rows, what: str, mending: Mending) -> None:
    """Refuse the file if any annotation is wrong, (N,), naming the first and counting the rest."""
    if wrong.any():
        first = annotations[int(wrong.argmax())]
        more = f", and {wrong.sum() - 1} more" if wrong.sum() > 1 else ""
        raise mending.fault(
            f"has {what}: annotation {first['id']} with {quoted(first['bbox'])}{more}"
        )
