"""Whether detections belong to the data that they are scored against, and why not.

Every check counts the detections that fail it. What makes the numbers wrong is refused with the
likely cause; what every detector may do, such as a box that ends beyond its image, is named.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pycocotools.mask as rle_tools

from backbones.base.wording import first_of
from detection.scoring.matches import MOST_DETECTIONS
from detection.scoring.results.reading import ResultColumns
from detection.scoring.results.truth import ScoringTruth
from detection.truth.causes import BOX_READINGS, SLACK, misread_boxes

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Share of the detections that repeat others from which a file was written twice.
_WRITTEN_TWICE = 0.5
# Share of images without a detection from which it is said.
_MANY_WITHOUT = 0.2
# Detections whose place is held against the objects of their image: the surest ones.
_LOOKED_AT = 2_000
# Another reading of the boxes is the right one if it finds this share of them on an object, and
# this many times as many as the stated reading.
_FOUND_SHARE = 0.3
_TIMES_AS_MANY = 4
_ON_AN_OBJECT = 0.5


@dataclass(frozen=True)
class Judged:
    """What the checks found.

    Attributes:
        refusals: Why the detections cannot be scored, a phrase each; empty if they can.
        remarks: What a reader of the scores has to know, one sentence each.
    """

    refusals: tuple[str, ...]
    remarks: tuple[str, ...]


def judge(columns: ResultColumns, scoring: ScoringTruth) -> Judged:
    """Check detections against the images, classes and sizes of the data.

    Args:
        columns: The detections.
        scoring: What they are held against.
    """
    refusals = [*_unknown_images(columns, scoring), *_unknown_classes(columns, scoring)]
    if refusals:
        # Without its image nothing can be said of a box.
        return Judged(tuple(refusals), ())
    images = positions_of(columns, scoring)
    sides = sizes_of(scoring)[images]
    refusals += [
        *_lacking(columns),
        *_mask_sizes(columns, sides),
        *_boxes(columns, scoring, images),
        *_written_twice(columns),
    ]
    remarks = [
        *_outside(columns, sides),
        *_scores(columns),
        *_repeats(columns),
        *_too_many(columns, images),
        *_without(images, len(scoring.truth.images)),
    ]
    return Judged(tuple(refusals), tuple(remarks))


def positions_of(columns: ResultColumns, scoring: ScoringTruth) -> Ints:
    """Return the position of each detection's image, (N,), in ascending order of image ids."""
    return np.searchsorted(_image_ids(scoring), columns.image_ids)


def sizes_of(scoring: ScoringTruth) -> Ints:
    """Return height and width of the images, (I, 2), in ascending order of image ids."""
    images = sorted(scoring.truth.images, key=lambda image: int(image["image_id"]))
    return np.array([(i["height"], i["width"]) for i in images], dtype=np.int64).reshape(-1, 2)


def _image_ids(scoring: ScoringTruth) -> Ints:
    return np.array(sorted(i["image_id"] for i in scoring.truth.images), dtype=np.int64)


def _any(wrong: Bools) -> Bools:
    """Return for each of (N, K) rows whether any of its numbers is wrong, (N,)."""
    return np.asarray(wrong.any(axis=1))


def _share(wrong: Bools) -> str:
    return f"{int(wrong.sum()):,} of {len(wrong):,} detections"


def _unknown_images(columns: ResultColumns, scoring: ScoringTruth) -> Iterator[str]:
    known = _image_ids(scoring)
    wrong = ~np.isin(columns.image_ids, known)
    if not wrong.any():
        return
    used = np.unique(columns.image_ids)
    cause = "they were made for other images"
    if wrong.all() and len(used) <= len(known) and used[-1] <= len(known) and used[0] in (0, 1):
        cause = "they look like the place of an image in the list, not its id"
    elif not wrong.all():
        cause = "they were made for more images than these data have, or for another version"
    first = first_of(np.unique(columns.image_ids[wrong]).tolist())
    yield f"{_share(wrong)} have an image_id that the data do not have ({first}); {cause}"


def _unknown_classes(columns: ResultColumns, scoring: ScoringTruth) -> Iterator[str]:
    known = np.array(scoring.category_ids, dtype=np.int64)
    wrong = ~np.isin(columns.category_ids, known)
    if not wrong.any():
        return
    low, high = int(columns.category_ids.min()), int(columns.category_ids.max())
    cause = "they were made for other classes"
    if low >= 0 and high < len(known):
        cause = "they look like class indices from 0; write the ids of `categories` instead"
    elif low >= 1 and high <= len(known):
        cause = (
            "they look like numbers from 1 without the gaps that these data have; write the ids "
            "of `categories` instead"
        )
    first = first_of(np.unique(columns.category_ids[wrong]).tolist())
    yield f"{_share(wrong)} have a category_id that the data do not have ({first}); {cause}"


def _lacking(columns: ResultColumns) -> Iterator[str]:
    """Yield what is wrong where some detections have masks or boxes and others do not."""
    unmasked = np.array([mask is None for mask in columns.masks], dtype=bool)
    unboxed = np.isnan(columns.boxes).any(axis=1)
    neither = unmasked & unboxed
    if neither.any():
        yield f"{_share(neither)} have neither bbox nor segmentation"
    elif unmasked.any() and not unmasked.all():
        yield f"{_share(unmasked)} have no segmentation; --boxes-only leaves masks out"


def _mask_sizes(columns: ResultColumns, sides: Ints) -> Iterator[str]:
    stated = columns.mask_sizes
    wrong = (stated != sides).any(axis=1) & (stated[:, 0] >= 0)
    if not wrong.any():
        return
    first = int(wrong.argmax())
    turned = (stated[wrong] == sides[wrong][:, ::-1]).all()
    cause = "height and width are exchanged" if turned else "they were drawn at another size"
    yield (
        f"{_share(wrong)} have a mask of another size than their image (image "
        f"{columns.image_ids[first]}: {stated[first].tolist()} instead of "
        f"{sides[first].tolist()}, height and width); {cause}"
    )


def _boxes(columns: ResultColumns, scoring: ScoringTruth, images: Ints) -> Iterator[str]:
    known = ~np.isnan(columns.boxes).any(axis=1)
    boxes, at = columns.boxes[known], images[known]
    negative = _any(columns.boxes[:, 2:] < 0)
    if negative.any():
        cause = next(iter(BOX_READINGS))
        yield f"{_share(negative)} have a box of negative width or height; {cause}"
        return
    sides = sizes_of(scoring)[at][:, ::-1].astype(np.float64)
    cause = misread_boxes(boxes, sides, "detections") if len(boxes) else ""
    cause = cause or _misplaced(boxes, columns.scores[known], at, scoring)
    if cause:
        yield f"boxes cannot be right: {cause}"


def _misplaced(boxes: Floats, scores: Floats, images: Ints, scoring: ScoringTruth) -> str:
    """Say which other reading puts the surest boxes onto objects, empty if none does.

    Args:
        boxes: (N, 4) as in the file.
        scores: (N,) of the detections.
        images: (N,) positions of their images.
        scoring: The objects.
    """
    chosen = np.argsort(-scores, kind="stable")[:_LOOKED_AT]
    ordered = sorted(scoring.truth.images, key=lambda image: int(image["image_id"]))
    sides = sizes_of(scoring)[images[chosen]][:, ::-1].astype(np.float64)
    owners = [ordered[position]["annotations"] for position in images[chosen]]
    here = _on_objects(boxes[chosen], owners)
    for cause, read in BOX_READINGS.items():
        corners = read(boxes[chosen], sides)
        other = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        there = _on_objects(other, owners)
        if there > max(_FOUND_SHARE * len(chosen), _TIMES_AS_MANY * here):
            return f"{there} of the surest {len(chosen)} are on an object if read so: {cause}"
    return ""


def _on_objects(boxes: Floats, owners: Sequence[Sequence[dict[str, Any]]]) -> int:
    """Return how many of (N, 4) boxes overlap an object of their image by half."""
    count = 0
    for box, objects in zip(boxes, owners, strict=True):
        if objects and (box[2:] > 0).all():
            known = [annotation["bbox"] for annotation in objects]
            found = rle_tools.iou([box.tolist()], known, [0] * len(known))
            count += bool((np.asarray(found) >= _ON_AN_OBJECT).any())
    return count


def _written_twice(columns: ResultColumns) -> Iterator[str]:
    repeats = _repeated(columns)
    if repeats.sum() >= _WRITTEN_TWICE * len(columns):
        yield f"{_share(repeats)} repeat another one exactly; the file was written or joined twice"


def _repeats(columns: ResultColumns) -> Iterator[str]:
    repeats = _repeated(columns)
    if repeats.any():
        yield f"{_share(repeats)} repeat another one exactly; each counts as a wrong detection."


def _repeated(columns: ResultColumns) -> Bools:
    """Return which detections are the same as an earlier one, (N,)."""
    keys = np.column_stack(
        [columns.image_ids, columns.category_ids, columns.scores, np.nan_to_num(columns.boxes)]
    )
    _, first = np.unique(keys, axis=0, return_index=True)
    repeats = np.ones(len(columns), dtype=bool)
    repeats[first] = False
    unboxed = np.isnan(columns.boxes).any(axis=1)
    return repeats & ~unboxed


def _outside(columns: ResultColumns, sides: Ints) -> Iterator[str]:
    low, high = columns.boxes[:, :2], columns.boxes[:, :2] + columns.boxes[:, 2:]
    limits = sides[:, ::-1]
    with np.errstate(invalid="ignore"):
        away = _any((low >= limits) | (high <= 0))
        beyond = ~away & _any((low < -SLACK) | (high > limits + SLACK))
        flat = _any(columns.boxes[:, 2:] == 0)
    if away.any():
        yield f"{_share(away)} have a box outside their image; each counts as a wrong detection."
    if beyond.any():
        yield f"{_share(beyond)} have a box that ends beyond its image; it is scored as it is."
    if flat.any():
        yield f"{_share(flat)} have a box without width or height; it matches no object."


def _scores(columns: ResultColumns) -> Iterator[str]:
    wrong = (columns.scores < 0) | (columns.scores > 1)
    if wrong.any():
        yield f"{_share(wrong)} have a score outside 0 to 1; only their order counts."


def _too_many(columns: ResultColumns, images: Ints) -> Iterator[str]:
    _, counts = np.unique(np.stack([images, columns.category_ids]), axis=1, return_counts=True)
    left_out = int(np.maximum(counts - MOST_DETECTIONS, 0).sum())
    if left_out:
        yield (
            f"{left_out:,} of {len(columns):,} detections are beyond the best {MOST_DETECTIONS} of "
            "their image and class and are left out, as in COCO's evaluation."
        )


def _without(images: Ints, num_images: int) -> Iterator[str]:
    without = num_images - len(np.unique(images))
    if without > _MANY_WITHOUT * num_images:
        yield (
            f"{without:,} of {num_images:,} images have no detection; if the file was made for "
            "fewer images, the scores are too low."
        )
