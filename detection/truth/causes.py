"""What exporters get wrong in whole files, found by reading boxes and masks another way.

Each reading turns numbers of a file into boxes x0, y0, x1, y1. Where the stated reading fails and
another one fits, the other one is the likely cause.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Reading = Callable[[Floats, Floats], Floats]

# Rounding and half-open pixels make honest boxes end this far beyond their image.
SLACK = 1.0
# A mask and its box belong together above this overlap; of tiny objects, whose overlap depends on
# rounding, when no side is farther off than this many pixels.
LEAST_OVERLAP = 0.5
NEAR = 4.0
# Of boxes that stick out, the share from which on another reading is looked for, and the share of
# all boxes that has to fit it: boxes that really stick out do so at all four borders, which no
# other reading explains.
_STICKING_SHARE = 0.03
_FITTING_SHARE = 0.99
_MOSTLY = 0.8
# An object with less than half of its box inside the image is rarely annotated at all.
_CUT_SHARE = 0.2
# The same number for all of so many objects of different sizes is no measurement.
_MANY = 10


def _corners(boxes: Floats, sides: Floats) -> Floats:
    """Return (N, 4) boxes read as x0, y0, x1, y1, (N, 4)."""
    del sides
    return boxes


def _centres(boxes: Floats, sides: Floats) -> Floats:
    """Return (N, 4) boxes read as centre, width and height as x0, y0, x1, y1, (N, 4)."""
    del sides
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def _exchanged(boxes: Floats, sides: Floats) -> Floats:
    """Return (N, 4) boxes read with x and y exchanged as x0, y0, x1, y1, (N, 4)."""
    del sides
    return np.concatenate([boxes[:, 1::-1], boxes[:, 1::-1] + boxes[:, :1:-1]], axis=1)


BOX_READINGS: Mapping[str, Reading] = {
    "boxes look like xyxy (two corners); COCO's are x, y, width, height": _corners,
    "boxes look like centre, width and height; COCO's are x, y, width, height": _centres,
    "x and y of the boxes look exchanged": _exchanged,
}


def as_corners(boxes: Floats) -> Floats:
    """Return x, y, width, height as x0, y0, x1, y1."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def overlaps(a: Floats, b: Floats) -> Floats:
    """Return the IoU of corresponding boxes x0, y0, x1, y1, 0 where one has no area."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clip(min=0).prod(axis=1)
    union = sum((box[:, 2:] - box[:, :2]).clip(min=0).prod(axis=1) for box in (a, b)) - shared
    found: Floats = np.divide(shared, union, out=np.zeros(len(a)), where=union > 0)
    return found


def belong(extents: Floats, corners: Floats) -> Bools:
    """Return which extents of masks belong to which boxes; NaN belongs to none."""
    near = (np.abs(extents - corners) <= NEAR).all(axis=1)
    return np.asarray(near | (overlaps(np.nan_to_num(extents), corners) >= LEAST_OVERLAP))


def misread_boxes(boxes: Floats, sides: Floats, areas: Floats) -> str:
    """Say how all boxes of a file look misread, empty where they look right.

    Args:
        boxes: (N, 4) as in the file, finite.
        sides: (N, 2) width and height of their images.
        areas: (N,) as in the file, NaN where there is none.
    """
    if len(boxes) > 1 and (boxes <= SLACK).all() and (boxes >= 0).all():
        return "boxes look normalised to 0..1; COCO's are pixels"
    corners = as_corners(boxes)
    sticking = len(boxes) - int(_inside(corners, sides).sum())
    if sticking > max(2, _STICKING_SHARE * len(boxes)):
        for cause, read in BOX_READINGS.items():
            if _inside(read(boxes, sides), sides).mean() >= _FITTING_SHARE:
                return f"{sticking} of {len(boxes)} leave their image; {cause}"
        cut = np.clip(corners, 0, np.tile(sides, 2))
        lost = (cut[:, 2:] - cut[:, :2]).prod(axis=1) < 0.5 * boxes[:, 2:].prod(axis=1)
        if lost.mean() > _CUT_SHARE:
            return (
                f"{int(lost.sum())} of {len(boxes)} boxes lie more outside their image than in "
                "it; boxes look made for images of another size"
            )
    return _misread_by_area(boxes, areas)


def _inside(corners: Floats, sides: Floats) -> Bools:
    """Return which (N, 4) boxes have a size and lie inside their images of (N, 2) sides, (N,)."""
    real = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    low = (corners[:, :2] >= -SLACK).all(axis=1)
    return np.asarray(real & low & (corners[:, 2:] <= sides + SLACK).all(axis=1))


def _misread_by_area(boxes: Floats, areas: Floats) -> str:
    """Say that (N, 4) boxes are corners where (N,) areas are those of corners, not of boxes."""
    known = np.isfinite(areas) & (areas > 0)
    if known.sum() < _MANY:
        return ""
    stated = areas[known]
    as_sizes = boxes[known, 2:].prod(axis=1)
    as_points = (boxes[known, 2:] - boxes[known, :2]).clip(min=0).prod(axis=1)
    fit = np.isclose(stated, as_points, rtol=0.01, atol=0).mean()
    wrong = np.isclose(stated, as_sizes, rtol=0.01, atol=0).mean()
    if fit < 1 - _CUT_SHARE or wrong > _CUT_SHARE:
        return ""
    return f"{next(iter(BOX_READINGS))} (the areas are those of corners)"


def misread_masks(
    extents: Floats,
    boxes: Floats,
    sides: Floats,
    others: Sequence[Floats],
    neighbours: Sequence[Floats],
) -> str:
    """Say how masks that contradict their boxes look misread, empty where nothing fits.

    Args:
        extents: (N, 4) x0, y0, x1, y1 of the masks; NaN for empty ones.
        boxes: (N, 4) x, y, width, height as in the file.
        sides: (N, 2) width and height of their images.
        others: For each mask, the boxes (M, 4) x0, y0, x1, y1 of all objects of its image.
        neighbours: (N, 4) boxes x0, y0, x1, y1 of the annotations before those of the masks in the
            file, and of those after them.
    """
    double = np.tile(sides, 2)
    corners = as_corners(boxes)
    readings = {
        "polygons look normalised to 0..1": extents * double,
        "polygons look like per cent of the image": extents * double / 100,
        "polygons look negative": -extents[:, [2, 3, 0, 1]],
        "x and y of the masks look exchanged": extents[:, [1, 0, 3, 2]],
        "masks look scaled, as for images of another size": _rescaled(extents, corners),
    }
    for cause, read in readings.items():
        if _mostly(belong(read, corners)):
            return cause
    for cause, read_box in BOX_READINGS.items():
        if _mostly(belong(extents, read_box(boxes, sides))):
            return cause
    if any(_mostly(belong(extents, neighbour)) for neighbour in neighbours):
        return "masks look shifted by one annotation"
    elsewhere = [
        bool(len(of_image)) and bool(belong(np.tile(extent, (len(of_image), 1)), of_image).any())
        for extent, of_image in zip(extents, others, strict=True)
    ]
    if _mostly(np.array(elsewhere)):
        return "masks look exchanged between the objects of an image"
    return "boxes and masks look made for different images or objects"


def _mostly(fits: Bools) -> bool:
    return bool(len(fits)) and bool(fits.mean() >= _MOSTLY)


def _rescaled(extents: Floats, corners: Floats) -> Floats:
    """Return (N, 4) extents times the one factor for each axis that suits most (N, 4) corners."""
    sizes = extents[:, 2:] - extents[:, :2]
    known = np.isfinite(sizes).all(axis=1) & (sizes > 0).all(axis=1)
    if known.sum() < 2:
        return np.full_like(extents, np.nan)
    factors = np.median((corners[known, 2:] - corners[known, :2]) / sizes[known], axis=0)
    return extents * np.tile(factors, 2)


def look_like_placeholders(areas: Floats, boxes: Floats) -> bool:
    """Return whether all areas are one number although the boxes differ in size.

    Args:
        areas: (N,) as in the file.
        boxes: (N, 4) x, y, width, height.
    """
    sizes = boxes[:, 2:].prod(axis=1)
    return len(areas) >= _MANY and bool(np.ptp(areas) == 0) and bool(np.ptp(sizes) > 0)
