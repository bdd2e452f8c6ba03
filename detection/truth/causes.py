"""What exporters get wrong in whole files, found by reading boxes and masks another way.

Each reading turns numbers of a file into boxes x0, y0, x1, y1. Where the stated reading fails and
another one fits, the other one is the likely cause.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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
# Two boxes are the same when every side agrees to half a pixel, or to a hundredth of the box's mean
# side, which is less than two people agree to.
_SAME_PIXELS = 0.5
_SAME_SHARE = 0.01
# Of boxes that stick out, the share from which on another reading is looked for, and the share of
# all boxes that has to fit it: boxes that really stick out do so at all four borders, which no
# other reading explains.
_STICKING_SHARE = 0.03
_FITTING_SHARE = 0.99
_MOSTLY = 0.8
# An object with less than half of its box inside the image is rarely annotated at all.
_CUT_SHARE = 0.2
# Of boxes that leave their image, the share that fits as two corners in a file of mixed boxes.
_FITTING_IN_PART = 0.9
# A box below a pixel in the corner of its image is a share of the image, not an object.
_TINY_SHARE = 0.02
# Rounding of an area, and the share of areas that are width times height in files without masks.
_AREA_SHARE = 0.01
_MOSTLY_EXACT = 0.9
# Boxes of a whole file that all end at one number, and how many of them rule out chance.
_NEARLY = 0.97
_MANY_BOXES = 50
# Fewer objects than this prove nothing about a file: chance explains what they share.
MANY = 10


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


def _swapped_corners(boxes: Floats, sides: Floats) -> Floats:
    """Return (N, 4) boxes read as y0, x0, y1, x1 as x0, y0, x1, y1, (N, 4)."""
    del sides
    return boxes[:, [1, 0, 3, 2]]


def _paired_corners(boxes: Floats, sides: Floats) -> Floats:
    """Return (N, 4) boxes read as x0, x1, y0, y1 as x0, y0, x1, y1, (N, 4)."""
    del sides
    return boxes[:, [0, 2, 1, 3]]


BOX_READINGS: Mapping[str, Reading] = {
    "boxes look like xyxy (two corners); COCO's are x, y, width, height": _corners,
    "boxes look like centre, width and height; COCO's are x, y, width, height": _centres,
    "x and y of the boxes, or width and height of the images, look exchanged": _exchanged,
    "boxes look like y0, x0, y1, x1; COCO's are x, y, width, height": _swapped_corners,
    "boxes look like x0, x1, y0, y1; COCO's are x, y, width, height": _paired_corners,
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


def slack_of(corners: Floats) -> Floats:
    """Return how far the sides of repeats of boxes x0, y0, x1, y1 (N, 4) may be off, (N,)."""
    sides = (corners[:, 2:] - corners[:, :2]).mean(axis=1)
    return np.asarray(np.maximum(_SAME_PIXELS, _SAME_SHARE * sides))


def near(one: Floats, two: Floats) -> Bools:
    """Return which boxes x0, y0, x1, y1 (N, 4) are the same as those of another (N, 4), (N,)."""
    return np.asarray((np.abs(one - two) <= slack_of(one)[:, None]).all(axis=1))


def belong(extents: Floats, corners: Floats) -> Bools:
    """Return which extents of masks belong to which boxes; NaN belongs to none."""
    near = (np.abs(extents - corners) <= NEAR).all(axis=1)
    return np.asarray(near | (overlaps(np.nan_to_num(extents), corners) >= LEAST_OVERLAP))


def misread_boxes(boxes: Floats, sides: Floats, items: str = "annotations") -> str:
    """Say how the boxes of a file look misread, empty where they look right.

    Args:
        boxes: (N, 4) as in the file, finite.
        sides: (N, 2) width and height of their images.
        items: What has the boxes, plural.
    """
    tiny = ((boxes >= 0) & (boxes <= SLACK)).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    if tiny.sum() > max(1, _TINY_SHARE * len(boxes)):
        return (
            f"boxes look normalised to 0..1 in {tiny.sum()} of {len(boxes)} {items}; COCO's "
            "are pixels"
        )
    scale = _scale(boxes, sides)
    if scale:
        return f"boxes look like shares of the image in 0..{scale}; COCO's are pixels"
    real = (boxes[:, 2:] > 0).all(axis=1)
    sticking = real & ~_inside(as_corners(boxes), sides)
    if sticking.sum() <= max(2, _STICKING_SHARE * len(boxes)):
        return ""
    for cause, read in BOX_READINGS.items():
        if _inside(read(boxes, sides), sides).mean() >= _FITTING_SHARE:
            return f"{sticking.sum()} of {len(boxes)} leave their image; {cause}"
    return _misread_in_part(boxes, sides, sticking)


def _scale(boxes: Floats, sides: Floats) -> int:
    """Return 100 or 1000 where (N, 4) boxes of images with (N, 2) sides end there, else 0.

    Per cent and the coordinates of language models end there; pixels of larger images do not.
    """
    if len(boxes) < _MANY_BOXES:
        return 0
    ends = (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    for scale in (100, 1000):
        full = ((ends > _NEARLY * scale) & (ends <= scale * (1 + 1e-6))).all()
        if full and (sides.min(axis=0) >= scale).all() and sides.max(axis=1).min() > 1.2 * scale:
            return scale
    return 0


def _misread_in_part(boxes: Floats, sides: Floats, sticking: Bools) -> str:
    """Say why some of (N, 4) boxes, those where (N,) ``sticking`` is set, leave their images."""
    count, total = int(sticking.sum()), len(boxes)
    as_points = _inside(_corners(boxes, sides), sides)
    if count >= MANY and as_points[sticking].mean() >= _FITTING_IN_PART:
        return (
            f"{count} of {total} leave their image, and as two corners these fit; in part, "
            f"{next(iter(BOX_READINGS))}"
        )
    corners = as_corners(boxes)
    real = (boxes[:, 2:] > 0).all(axis=1)
    shift = [_shift(corners[real], sides[real], axis) for axis in (0, 1)]
    if count >= MANY and None not in shift:
        return (
            f"{count} of {total} leave their image at the same sides, and none comes as near to "
            f"the opposite ones; boxes look shifted by about {shift[0]}, {shift[1]} pixels (x, y)"
        )
    if count >= MANY and _centres_leave(boxes[sticking], sides[sticking]):
        return (
            f"{count} of {total} leave their image, all at its right or bottom, and as centre, "
            f"width and height these fit; in part, {list(BOX_READINGS)[1]}"
        )
    cut = np.clip(corners, 0, np.tile(sides, 2))
    lost = (cut[:, 2:] - cut[:, :2]).prod(axis=1) < 0.5 * boxes[:, 2:].prod(axis=1)
    if lost.mean() <= _CUT_SHARE:
        return ""
    return (
        f"{int(lost.sum())} of {total} boxes lie more outside their image than in it; boxes look "
        "made for images of another size"
    )


def _centres_leave(boxes: Floats, sides: Floats) -> bool:
    """Return whether (N, 4) boxes that leave their images of (N, 2) sides are in centre form.

    A centre lies right of and below half of its box, so that such boxes never leave their image at
    the left or at the top. Boxes that were clipped to a larger image do, or do not fit as centres.
    """
    if (boxes[:, :2] < 0).any():
        return False
    return bool(_inside(_centres(boxes, sides), sides).mean() >= _FITTING_IN_PART)


def _shift(corners: Floats, sides: Floats, axis: int) -> int | None:
    """Return by how many pixels (N, 4) boxes look shifted along an axis, None for no such number.

    Boxes shifted by d leave their images of (N, 2) sides by up to d at one border and keep d away
    from the opposite one.
    """
    before = float(corners[:, axis].min())
    behind = float((sides[:, axis] - corners[:, 2 + axis]).min())
    if min(before, behind) >= -SLACK:
        return 0
    beyond = max(-before, -behind)
    if beyond < NEAR or max(before, behind) < beyond:
        return None
    return round(beyond if behind < before else -beyond)


def _inside(corners: Floats, sides: Floats) -> Bools:
    """Return which (N, 4) boxes have a size and lie inside their images of (N, 2) sides, (N,)."""
    real = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    low = (corners[:, :2] >= -SLACK).all(axis=1)
    return np.asarray(real & low & (corners[:, 2:] <= sides + SLACK).all(axis=1))


@dataclass(frozen=True)
class CornerBoxes:
    """Which boxes are two corners by their areas.

    Attributes:
        flags: (N,) the stated area is that between the corners, not width times height.
        sure: Nearly all other areas are width times height, so that no chance explains these.
    """

    flags: Bools
    sure: bool


def corners_by_area(boxes: Floats, areas: Floats) -> CornerBoxes:
    """Return which boxes are two corners, because their area is that of such.

    Args:
        boxes: (N, 4) as in the file, finite.
        areas: (N,) as in the file, NaN where there is none.
    """
    known = np.isfinite(areas) & (areas > 0) & (boxes[:, 2:] > 0).all(axis=1)
    as_sizes = boxes[:, 2:].prod(axis=1)
    as_points = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1)
    with np.errstate(invalid="ignore"):
        # Whole numbers for areas of small boxes are off by more than a hundredth.
        sizes = known & (np.abs(areas - as_sizes) <= np.maximum(1.0, _AREA_SHARE * areas))
        points = known & (np.abs(areas - as_points) <= _AREA_SHARE * areas)
    flags = points & ~sizes
    others = known & ~flags
    exact = not others.any() or sizes[others].mean() >= _MOSTLY_EXACT
    possible = known & (as_points > 0)
    likely = flags.sum() >= MANY and flags.sum() > _MOSTLY * possible.sum()
    return CornerBoxes(flags if exact or likely else np.zeros_like(flags), exact and others.any())


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
    return len(areas) >= MANY and bool(np.ptp(areas) == 0) and bool(np.ptp(sizes) > 0)
