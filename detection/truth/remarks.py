"""What a reader of the scores has to know of an annotation file that is not wrong."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from backbones.base.wording import quoted
from detection.data.findings import Mending
from detection.truth.areas import mask_area

# COCO's own files have one crowd in eighty objects.
_CROWDS = 0.1
# Boxes that leave this share of all images free at the right and at the bottom, and at the left and
# at the top a third of it at most; the numbers of boxes and images below rule out chance.
_FREE = 0.1
_MANY_BOXES = 100
_MANY_IMAGES = 25
# From this share of masks on that fill their box to a hundredth, they were made from boxes.
_RECTANGLES = 0.95
_OF_RECTANGLE = 0.01
# COCO's evaluation looks at this many detections of an image.
_MOST_OBJECTS = 100


def remark(
    content: dict[str, Any],
    pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]],
    mending: Mending,
) -> None:
    """Warn of crowds, ignored objects, repeated images, full images and LVIS's rules.

    Args:
        content: The file.
        pairs: Its cleaned annotations, each with its image.
        mending: Hears of it.
    """
    _remark_crowds(pairs, mending)
    ignored = sum(1 for a in content["annotations"] if a.get("ignore"))
    if ignored:
        mending.warn(
            f"{ignored} annotations are marked ignore, which COCO's evaluation does not know, so "
            "they are trained and counted like all others"
        )
    names = Counter(image["file_name"] for image in content["images"])
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        first = quoted(repeated[0])
        mending.warn(
            f"{len(repeated)} image files are listed more than once (first: {first}), so that "
            "objects missing in one entry count as errors in the other"
        )
    full = Counter(image["image_id"] for a, image in pairs if not a["iscrowd"])
    most = max(full.values(), default=0)
    if most > _MOST_OBJECTS:
        count = sum(number > _MOST_OBJECTS for number in full.values())
        which = "1 image has" if count == 1 else f"{count} images have"
        mending.warn(
            f"{which} more than {_MOST_OBJECTS} objects, up to {most}, and in each no "
            f"more than evaluation.detections_per_image ({_MOST_OBJECTS} unless set) can be found"
        )
    _remark_rectangles(pairs, mending)
    _remark_reach(pairs, mending)
    _remark_lvis(content, mending)


def _remark_rectangles(
    pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], mending: Mending
) -> None:
    """Warn where masks are the rectangles of their boxes, as exports of boxes with masks have."""
    masked = [a for a, _ in pairs if not a["iscrowd"] and "segmentation" in a]
    if len(masked) < _MANY_BOXES or len({i["image_id"] for _, i in pairs}) < _MANY_IMAGES:
        return
    boxes = np.array([a["bbox"][2] * a["bbox"][3] for a in masked])
    masks = np.array([mask_area(a["segmentation"]) for a in masked])
    count = int((np.abs(masks - boxes) <= _OF_RECTANGLE * boxes).sum())
    if count >= _RECTANGLES * len(masked):
        mending.warn(
            f"{count} of {len(masked)} masks are the rectangles of their boxes, so APmask says "
            "nothing about masks"
        )


def _remark_reach(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], mending: Mending) -> None:
    """Warn where all boxes lie at the upper left, as those of images that were enlarged do."""
    shares = np.array(
        [
            (x / i["width"], y / i["height"], (x + w) / i["width"], (y + h) / i["height"])
            for (x, y, w, h), i in ((a["bbox"], image) for a, image in pairs)
        ]
    ).reshape(-1, 4)
    if len(shares) < _MANY_BOXES or len({i["image_id"] for _, i in pairs}) < _MANY_IMAGES:
        return
    before, behind = shares[:, :2].min(axis=0), 1 - shares[:, 2:].max(axis=0)
    if (behind < _FREE).any() or (before > behind / 3).any():
        return
    right, bottom = (100 * (1 - behind)).round().astype(int).tolist()
    mending.warn(
        f"no box reaches beyond {right} % of the width and {bottom} % of the height of its image, "
        "as if boxes were made for smaller images; compare a few with their images"
    )


def _remark_crowds(
    pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], mending: Mending
) -> None:
    crowds = [a for a, _ in pairs if a["iscrowd"]]
    if len(crowds) <= _CROWDS * len(pairs):
        return
    mending.warn(
        f"{len(crowds)} of {len(pairs)} annotations have iscrowd 1, so they are neither trained "
        f"nor counted (first: annotation {crowds[0]['id']}); CVAT's brush and other tools write it "
        "for any run-length mask, so set iscrowd to 0 where one object is meant"
    )


def _remark_lvis(content: dict[str, Any], mending: Mending) -> None:
    images, kinds = content["images"], content["categories"]
    if any("not_exhaustive_category_ids" in i for i in images) or any(
        "frequency" in kind for kind in kinds
    ):
        mending.warn(
            "this is an LVIS file, whose images are not searched for all classes; COCO's AP counts "
            "what it finds of the others as errors and is not LVIS's AP"
        )
