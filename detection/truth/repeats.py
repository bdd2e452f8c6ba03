"""Boxes that repeat each other or their image, as doubled exports and placeholders do."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detection.data.findings import REPEATED, TWO_CLASSES, Mending, name_ids
from detection.truth.causes import MANY, as_corners, near, slack_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
# A pair of an annotation and its image.
Object = tuple[dict[str, Any], dict[str, Any]]

# Comparing each box with this many of its neighbours in order of position finds all repeats of an
# image with as many objects; it bounds the work on files that repeat one box a million times.
_MOST_COMPARED = 200
# Fewer repeats than this share of a file change AP by less than its last digit shows.
_SAID_FROM = 0.001
# A box is its whole image from this share of the image's area on.
_WHOLE = 0.98
# Shares of annotations that are their whole image: said, and refused. Classification sets with one
# box an image exist, but with nothing else there is nothing to localise.
_WHOLE_SAID = 0.2
_WHOLE_REFUSED = 0.95
# Share of images with the same box from which on it is said, and the fewest such images.
_ONE_BOX_SAID = 0.5
_ONE_BOX_IMAGES = 25


def examine_repeats(pairs: Sequence[Object], mending: Mending) -> None:
    """Count annotations that repeat another's box, and boxes that stand for no measurement.

    Args:
        pairs: Cleaned annotations, each with its image; crowds are left out of account.
        mending: Hears of them.

    Raises:
        PreflightError: More than ``REPEATED`` or ``TWO_CLASSES`` allow, or nearly all boxes are
            their whole image.
    """
    objects = [pair for pair in pairs if not pair[0]["iscrowd"]]
    if not objects:
        return
    boxes = np.array([a["bbox"] for a, _ in objects], dtype=np.float64)
    images = np.array([image["image_id"] for _, image in objects], dtype=np.int64)
    classes = np.array([a["category_id"] for a, _ in objects], dtype=np.int64)
    _examine_whole(objects, boxes, mending)
    same, other = repeats(as_corners(boxes), images, classes)
    for kind, flags, cause in (
        (REPEATED, same, "objects look annotated twice; keep one annotation of each"),
        (TWO_CLASSES, other, "every object looks annotated under two classes; keep one class of "
         "each, for instance with `classes` in a data.toml"),
    ):  # fmt: skip
        if flags.mean() > _SAID_FROM:
            ids = [objects[at][0]["id"] for at in np.flatnonzero(flags)]
            mending.settle(kind, ids, len(objects), cause=cause)
    _remark_one_box(objects, boxes, images, mending)


def repeats(corners: Floats, images: Ints, classes: Ints) -> tuple[Bools, Bools]:
    """Return which boxes repeat an earlier box of their image under its class, and under another.

    Args:
        corners: (N, 4) x0, y0, x1, y1.
        images: (N,) ids of their images.
        classes: (N,) class indices.

    Returns:
        Two arrays of shape (N,); no box is in both.
    """
    total = corners.sum(axis=1)
    order = np.lexsort((total, images))
    slack = slack_of(corners)
    same, other = np.zeros(len(corners), dtype=bool), np.zeros(len(corners), dtype=bool)
    places = np.arange(len(corners) - 1)
    for step in range(1, _MOST_COMPARED + 1):
        places = places[places + step < len(order)]
        one, two = order[places], order[places + step]
        close = (images[one] == images[two]) & (total[two] - total[one] <= 4 * slack[one])
        places, one, two = places[close], one[close], two[close]
        if not len(places):
            break
        equal = near(corners[one], corners[two])
        later = np.maximum(one, two)[equal]
        alike = (classes[one] == classes[two])[equal]
        same[later[alike]] = True
        other[later[~alike]] = True
    return same, other & ~same


def _examine_whole(objects: Sequence[Object], boxes: Floats, mending: Mending) -> None:
    """Say or refuse (N, 4) boxes x, y, width, height that are their whole images."""
    sides = np.array([(i["width"], i["height"]) for _, i in objects], dtype=np.float64)
    low = boxes[:, :2].clip(min=0)
    shown = np.minimum(boxes[:, :2] + boxes[:, 2:], sides) - low
    whole = shown.clip(min=0).prod(axis=1) >= _WHOLE * sides.prod(axis=1)
    count, total = int(whole.sum()), len(objects)
    if total < MANY or count <= _WHOLE_SAID * total:
        return
    first = name_ids([objects[int(whole.argmax())][0]["id"]])
    if count > _WHOLE_REFUSED * total:
        raise mending.fault(
            f"has boxes that are their whole image: {count} of {total} (first: {first}). Boxes "
            "look like placeholders and there is nothing to localise; annotate objects, or measure "
            "classification with labelled images"
        )
    mending.warn(
        f"{count} of {total} boxes are their whole image (first: {first}), which boxes of "
        "placeholders are; AP then measures classification more than detection"
    )


def _remark_one_box(
    objects: Sequence[Object], boxes: Floats, images: Ints, mending: Mending
) -> None:
    """Say that most images of (N,) ids have the same of (N, 4) boxes, their whole image aside."""
    of_image: set[tuple[int, tuple[int, ...]]] = set()
    for image, box, (_, entry) in zip(
        images.tolist(), boxes.round().astype(np.int64).tolist(), objects, strict=True
    ):
        if box[2] * box[3] < _WHOLE * entry["width"] * entry["height"]:
            of_image.add((image, tuple(box)))
    counts = Counter(box for _, box in of_image)
    total = len(set(images.tolist()))
    box, count = counts.most_common(1)[0] if counts else ((), 0)
    if total >= _ONE_BOX_IMAGES and count > _ONE_BOX_SAID * total:
        mending.warn(
            f"{count} of {total} annotated images have the same box {list(box)}, which a "
            "placeholder would be"
        )
