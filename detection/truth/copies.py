"""Images that are copies of others: within a split, and of training images in validation."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from backbones.base.images import decode
from detection.data.findings import COPIES, Mending
from detection.truth.causes import as_corners, near

Floats = npt.NDArray[np.float64]
ImageDict = dict[str, Any]

# Candidates for images that were saved again: validation images whose pixels are compared, and
# training images that each of them is compared with. At most 320 images are decoded.
_MOST_COMPARED = 64
_MOST_TWINS = 4
# Boxes of such images agree to a pixel, which is how far rounding moves them.
_BOX_PIXELS = 1.0
# Side of the thumbnails, and how alike they are: mean difference in levels of 255, correlation, and
# the least standard deviation that makes it one. JPEG at quality 30 moved thumbnails of 60
# photographs of COCO by 0.7 levels at most, with correlations of 0.999; different ones 0.73.
_THUMBNAIL = 16
_MEAN_LEVELS = 4.0
_CONTRAST = 2.0
_CORRELATION = 0.98
# One picture in place of others has more than this share of all copies, and is copied more often.
_ONE_PICTURE = 0.5
_FEWEST = 4
# Share of groups of copies from which on they have one cause.
_MOSTLY = 0.8


@dataclass(frozen=True)
class ShownImages:
    """The images of a split, with what their files hold.

    Attributes:
        folder: That file names start from.
        images: Dataset dicts with relative ``file_name``.
        digests: Of each image's content.
    """

    folder: Path
    images: Sequence[ImageDict]
    digests: Sequence[str]


def examine_copies(split: ShownImages, mending: Mending) -> None:
    """Count images that equal another byte for byte and have other annotations.

    Args:
        split: The images.
        mending: Hears of them.

    Raises:
        PreflightError: They are more than ``COPIES`` allows.
    """
    groups: dict[str, list[ImageDict]] = {}
    for image, digest in zip(split.images, split.digests, strict=True):
        groups.setdefault(digest, []).append(image)
    wrong = [
        group for group in groups.values()
        if len(group) > 1 and not all(_agree(group[0], other) for other in group[1:])
    ]  # fmt: skip
    if wrong:
        ids = [image["image_id"] for group in wrong for image in group]
        first = " and ".join(image["file_name"] for image in wrong[0][:2])
        mending.settle(COPIES, ids, len(split.images), first=first, cause=_cause_of_copies(wrong))


def _agree(one: ImageDict, two: ImageDict) -> bool:
    """Return whether two images have the same classes and boxes, in any order."""
    if len(one["annotations"]) != len(two["annotations"]):
        return False
    return _shared(one, two) == len(one["annotations"])


def _shared(one: ImageDict, two: ImageDict) -> int:
    """Return how many annotations of an image have one of the same class and box in the other."""
    if not one["annotations"] or not two["annotations"]:
        return 0
    (classes, boxes), (other_classes, others) = _table(one), _table(two)
    free = np.ones(len(others), dtype=bool)
    for label, box in zip(classes, boxes, strict=True):
        fits = np.flatnonzero(free & (other_classes == label) & near(box[None], others))
        free[fits[:1]] = False
    return int((~free).sum())


def _table(image: ImageDict) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return classes (N,) and boxes x0, y0, x1, y1 (N, 4) of an image's annotations."""
    annotations = image["annotations"]
    boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
    return np.array([a["category_id"] for a in annotations], dtype=np.int64), as_corners(boxes)


def _cause_of_copies(groups: Sequence[Sequence[ImageDict]]) -> str:
    """Say why copies of an image have different annotations."""
    most = max(map(len, groups))
    if most > _ONE_PICTURE * sum(map(len, groups)) and most > _FEWEST:
        return "one picture stands in place of many, as placeholders of downloads do; get the files"
    empty = [any(not image["annotations"] for image in group) for group in groups]
    if np.mean(empty) >= _MOSTLY:
        return (
            "copies without annotations look forgotten; annotate them like the rest or remove them"
        )
    apart = [
        not any(_shared(group[0], other) for other in group[1:]) and not lacks
        for group, lacks in zip(groups, empty, strict=True)
    ]
    if np.mean(apart) >= _MOSTLY:
        return (
            "each copy of an image looks annotated with a part of its objects; list every image "
            "once, with all of its objects"
        )
    return "copies of an image look annotated at different times; keep one of each"


def remark_overlap(train: ShownImages, val: ShownImages) -> list[str]:
    """Say which validation images are training images, byte for byte or saved again.

    Args:
        train: The training images.
        val: The validation images.
    """
    known = set(train.digests)
    same = [i for i, digest in zip(val.images, val.digests, strict=True) if digest in known]
    found = []
    if same:
        found.append(
            f"{len(same)} of {len(val.images)} validation images are training images too, byte for "
            f"byte (first: {same[0]['file_name']}), so the scores are too high."
        )
    rest = [i for i, digest in zip(val.images, val.digests, strict=True) if digest not in known]
    candidates = _candidates(train.images, rest)
    tried = sorted(candidates, key=_rank)[:_MOST_COMPARED]
    pairs = [(rest[at], _twin(rest[at], candidates[at], train, val)) for at in tried]
    shown = [(image, twin) for image, twin in pairs if twin is not None]
    if shown:
        image, twin = shown[0]
        found.append(
            f"{len(candidates)} of {len(val.images)} validation images have the size and the boxes "
            f"of a training image, and {len(shown)} of {len(tried)} that were compared show the "
            f"same picture (first: {image['file_name']} and {twin['file_name']}), so the scores "
            "are too high."
        )
    return found


def _rank(place: int) -> bytes:
    return hashlib.sha256(f"overlap {place}".encode()).digest()


def _candidates(train: Sequence[ImageDict], val: Sequence[ImageDict]) -> dict[int, list[ImageDict]]:
    """Return by place in ``val`` the training images of the same size, classes and boxes."""
    # Loading it takes longer than planning, which reads facts that were found before.
    from scipy.spatial import cKDTree

    by_kind = _by_kind(train)
    found: dict[int, list[ImageDict]] = {}
    for kind, images in _by_kind(val).items():
        ours = by_kind.get(kind, {})
        if not ours:
            continue
        places, theirs = list(ours), list(images)
        _, nearest = cKDTree([_position(image) for image in ours.values()]).query(
            [_position(image) for image in images.values()],
            k=list(range(1, _MOST_TWINS + 1)),
            p=np.inf,
            distance_upper_bound=_BOX_PIXELS,
        )
        for at, row in zip(theirs, nearest.tolist(), strict=True):
            # The tree's size stands for no neighbour.
            found[at] = [train[places[place]] for place in row if place < len(places)]
    return {at: twins for at, twins in found.items() if twins}


def _by_kind(images: Sequence[ImageDict]) -> dict[tuple[Any, ...], dict[int, ImageDict]]:
    """Return annotated images by place, those of one size and of the same classes together."""
    kinds: dict[tuple[Any, ...], dict[int, ImageDict]] = {}
    for at, image in enumerate(images):
        if image["annotations"]:
            classes = sorted(a["category_id"] for a in image["annotations"])
            kinds.setdefault((image["width"], image["height"], *classes), {})[at] = image
    return kinds


def _position(image: ImageDict) -> list[float]:
    """Return the numbers of all boxes of an image, those of one class in order of position."""
    rows = sorted((a["category_id"], *a["bbox"]) for a in image["annotations"])
    return [number for row in rows for number in row[1:]]


def _twin(
    image: ImageDict, candidates: Sequence[ImageDict], train: ShownImages, val: ShownImages
) -> ImageDict | None:
    """Return the training image that shows the same picture, None where none does."""
    own = _thumbnail(val.folder / image["file_name"])
    for candidate in candidates:
        if _alike(own, _thumbnail(train.folder / candidate["file_name"])):
            return candidate
    return None


def _thumbnail(path: Path) -> Floats:
    """Return an image in grey, (16, 16), from 0 to 255; NaN where it cannot be decoded."""
    try:
        grey = decode(path.read_bytes()).convert("L")
    except (OSError, ValueError):  # of sets too large for every image to be decoded before
        return np.full((_THUMBNAIL, _THUMBNAIL), np.nan)
    small = grey.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


def _alike(one: Floats, two: Floats) -> bool:
    """Return whether (16, 16) thumbnails show the same; two plain grey areas prove nothing."""
    if not np.abs(one - two).mean() <= _MEAN_LEVELS or min(one.std(), two.std()) < _CONTRAST:
        return False
    return bool(np.corrcoef(one.ravel(), two.ravel())[0, 1] >= _CORRELATION)
