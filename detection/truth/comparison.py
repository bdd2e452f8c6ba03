"""One comparison of mask, box and image for every object of a file; see also ``areas``.

Thresholds stand where they are used: ``detection.data.findings`` says how many annotations of each
kind are mended, ``detection.truth.causes`` when a mask belongs to a box.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pycocotools.mask as rle_tools

from detection.data.findings import NO_MASK, OTHER_MASK, Mending, allowed
from detection.truth.causes import as_corners, belong, misread_masks
from detection.truth.polygons import extent_of

Floats = npt.NDArray[np.float64]
# A pair of an object's annotation and its image.
Object = tuple[dict[str, Any], dict[str, Any]]


def compare_masks(objects: Sequence[Object], mending: Mending) -> bool:
    """Hold every mask against its box; return whether the file has masks.

    Masks that are absent or contradict their box become rectangles where they are few. Where many
    are absent the file counts as boxes only, and no annotation keeps a mask.

    Args:
        objects: All annotations but crowds, each with its image.
        mending: Hears of each.

    Raises:
        PreflightError: More masks contradict their boxes than ``OTHER_MASK`` allows.
    """
    without = [a for a, _ in objects if "segmentation" not in a]
    if not objects or len(without) == len(objects):
        return False
    if len(without) > allowed(NO_MASK.share, len(objects)):
        mending.warn(
            f"{len(without)} of {len(objects)} objects have no mask, so all masks are left aside "
            f"and only boxes are trained and scored (first: annotation {without[0]['id']})"
        )
        return False
    mending.settle(NO_MASK, [a["id"] for a in without], len(objects))
    masked = [pair for pair in objects if "segmentation" in pair[0]]
    wrong = _contradicting(masked, mending)
    for annotation in (*without, *wrong):
        annotation["segmentation"] = [rectangle(annotation["bbox"])]
    return True


def rectangle(box: Sequence[float]) -> list[float]:
    """Return a box x, y, width, height as a polygon."""
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def _contradicting(masked: Sequence[Object], mending: Mending) -> list[dict[str, Any]]:
    """Return the annotations whose mask is not where their box is, after settling them."""
    boxes = np.array([a["bbox"] for a, _ in masked], dtype=np.float64)
    extents = np.array([_extent(a["segmentation"]) for a, _ in masked], dtype=np.float64)
    corners = as_corners(boxes)
    wrong: list[int] = np.flatnonzero(~belong(extents, corners)).tolist()
    if not wrong:
        return []
    ids = [masked[at][0]["id"] for at in wrong]
    cause = ""
    if len(ids) > allowed(OTHER_MASK.share, len(masked)):
        cause = _cause(wrong, extents[wrong], masked, corners)
    mending.settle(OTHER_MASK, ids, len(masked), cause=cause)
    return [masked[at][0] for at in wrong]


def _extent(segmentation: Any) -> tuple[float, ...]:
    if isinstance(segmentation, list):
        return extent_of(segmentation)
    x, y, width, height = rle_tools.toBbox(segmentation)
    return (x, y, x + width, y + height) if width and height else (math.nan,) * 4


def _cause(at: Sequence[int], extents: Floats, masked: Sequence[Object], corners: Floats) -> str:
    """Say how K masks with (K, 4) extents look misread, among N objects with (N, 4) corners."""
    wrong = [masked[place] for place in at]
    if _along_rows(wrong):
        return "run lengths look counted along rows; COCO's run down columns"
    by_image: dict[int, list[int]] = {}
    for place, (_, image) in enumerate(masked):
        by_image.setdefault(image["image_id"], []).append(place)
    others = [corners[by_image[image["image_id"]]] for _, image in wrong]
    neighbours = [corners[(np.array(at) + step) % len(masked)] for step in (-1, 1)]
    boxes = np.array([a["bbox"] for a, _ in wrong], dtype=np.float64)
    return misread_masks(extents, boxes, _sides(wrong), others, neighbours)


def _sides(objects: Sequence[Object]) -> Floats:
    """Return width and height of the images of N objects, (N, 2)."""
    return np.array([(image["width"], image["height"]) for _, image in objects], dtype=np.float64)


def _along_rows(wrong: Sequence[Object], most: int = 50) -> bool:
    """Return whether the first few masks belong to their boxes when read along rows."""
    fits = []
    for annotation, _ in wrong[:most]:
        rle = annotation["segmentation"]
        if isinstance(rle, list):
            return False
        flat = rle_tools.decode(rle).ravel(order="F")
        again = rle_tools.encode(np.asfortranarray(flat.reshape(rle["size"])))
        extent = np.array([_extent(again)])
        corners = as_corners(np.array([annotation["bbox"]], dtype=np.float64))
        fits.append(bool(belong(extent, corners)[0]))
    return sum(fits) > len(fits) / 2
