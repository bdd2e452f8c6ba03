"""From truth and detections to matches, by pycocotools' IoU and its rules.

The greedy rule is that of pycocotools ``COCOeval.evaluateImg``: detections choose in order of their
score; each takes the free object of highest IoU, ignored objects only where no other is left, and
of equal ones the last. A crowd can be matched any number of times.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pycocotools.mask as rle_tools

from detection.data.dataset import Truth
from detection.data.segmentation import segmentation_rle
from detection.scoring.cocoeval import areas_of, xywh_of
from detection.scoring.detections import Detections
from detection.scoring.matches import (
    AREAS,
    IOUS,
    MOST_DETECTIONS,
    DetectionMatches,
    KindMatches,
    places_within,
)

Bools = npt.NDArray[np.bool_]
# A match at IoU 1 must survive rounding (pycocotools ``COCOeval.evaluateImg``).
_THRESHOLDS = np.minimum(IOUS, 1 - 1e-10)
# Groups matched at a time, so that their padded arrays stay small.
_CHUNK = 1_000


@dataclass(frozen=True)
class ImageClassGroup:
    """Detections and objects of one image and class, at least one of each.

    Attributes:
        rows: Of the detections, best first.
        ious: (D, G) IoU of each detection with each object.
        crowd: (G,) the object is a crowd.
        ignored: (4, G) at each area: the object does not count.
    """

    rows: slice
    ious: npt.NDArray[np.float64]
    crowd: Bools
    ignored: Bools


def match_groups(groups: Sequence[ImageClassGroup], num_rows: int) -> tuple[Bools, Bools]:
    """Match all groups.

    Args:
        groups: In any order.
        num_rows: Of detections, those of no group included.

    Returns:
        (N, 4, 10) whether each detection has an object, and whether that object is ignored.
    """
    matched = np.zeros((num_rows, len(AREAS), len(IOUS)), dtype=bool)
    ignored = np.zeros_like(matched)
    for chunk in _chunks(groups):
        _match(chunk, matched, ignored)
    return matched, ignored


def _chunks(groups: Sequence[ImageClassGroup]) -> Iterator[list[ImageClassGroup]]:
    """Yield groups of about as many objects together, since all are padded to the most."""
    order = sorted(groups, key=lambda group: (len(group.crowd), len(group.ious)))
    chunk: list[ImageClassGroup] = []
    for group in order:
        if chunk and (len(chunk) == _CHUNK or len(group.crowd) > 2 * len(chunk[0].crowd)):
            yield chunk
            chunk = []
        chunk.append(group)
    if chunk:
        yield chunk


def _match(groups: list[ImageClassGroup], matched: Bools, ignored: Bools) -> None:
    num_objects = max(len(group.crowd) for group in groups)
    num_turns = max(len(group.ious) for group in groups)
    ious = np.full((len(groups), num_turns, num_objects), -1.0)
    crowd = np.zeros((len(groups), num_objects), dtype=bool)
    skip = np.ones((len(groups), len(AREAS), num_objects), dtype=bool)
    for index, group in enumerate(groups):
        ious[index, : len(group.ious), : len(group.crowd)] = group.ious
        crowd[index, : len(group.crowd)] = group.crowd
        skip[index, :, : len(group.crowd)] = group.ignored
    starts = np.array([group.rows.start for group in groups])
    free = np.ones((len(groups), len(AREAS), len(IOUS), num_objects), dtype=bool)
    near = ious.max(axis=2) >= _THRESHOLDS[0]
    for turn in range(num_turns):
        at = np.flatnonzero(near[:, turn])
        if not len(at):
            continue
        own = ious[at, turn][:, None, None, :]
        possible = free[at] & (own >= _THRESHOLDS[:, None])
        found, chosen = _choose(possible, own, skip[at][:, :, None, :])
        rows = starts[at] + turn
        matched[rows] = found
        ignored[rows] = found & np.take_along_axis(skip[at], chosen, axis=2)
        taken = found & ~crowd[at[:, None, None], chosen]
        g, a, t = np.nonzero(taken)
        free[at[g], a, t, chosen[g, a, t]] = False


def _choose(
    possible: Bools, ious: npt.NDArray[np.float64], skip: Bools
) -> tuple[Bools, npt.NDArray[np.int64]]:
    """Return whether there is an object, (B, 4, 10), and which."""
    counting = possible & ~skip
    wanted = np.where(counting.any(axis=3, keepdims=True), counting, possible)
    worth = np.where(wanted, ious, -1.0)
    last = worth.shape[3] - 1
    chosen: npt.NDArray[np.int64] = last - worth[..., ::-1].argmax(axis=3)
    return np.asarray(wanted.any(axis=3)), chosen


Floats = npt.NDArray[np.float64]
_Objects = dict[tuple[int, int], list[dict[str, Any]]]


def match(truth: Truth, detections: Detections, most: int = MOST_DETECTIONS) -> DetectionMatches:
    """Match detections with the truth.

    Args:
        truth: Images, annotations and classes.
        detections: Of exactly these images, checked.
        most: Detections that count in an image and class.
    """
    positions = {int(image_id): n for n, image_id in enumerate(detections.image_ids)}
    order, places = _order(detections)
    order = order[places < most]
    images = detections.rows_images[order].astype(np.int32)
    classes = detections.classes[order]
    boxes = xywh_of(detections)[order].astype(np.float64)
    spans = _spans(classes, images)
    kinds = {
        "box": _match_kind(
            spans, boxes, boxes[:, 2] * boxes[:, 3], _objects(truth, positions, masks=False)
        )
    }
    if detections.masks is not None and truth.has_masks():
        rles = detections.rles()
        chosen = [rles[row] for row in order]
        sizes = areas_of(chosen) if chosen else np.zeros(0)
        kinds["mask"] = _match_kind(spans, chosen, sizes, _objects(truth, positions, masks=True))
    counted = [
        (positions[image["image_id"]], a["category_id"], _in_areas(a["area"]))
        for image in truth.images
        for a in image["annotations"]
        if not a["iscrowd"]
    ]
    return DetectionMatches(
        image_ids=detections.image_ids,
        class_names=truth.class_names,
        images=images,
        classes=classes,
        scores=detections.scores[order],
        object_images=np.array([image for image, _, _ in counted], dtype=np.int32),
        object_classes=np.array([kind for _, kind, _ in counted], dtype=np.int32),
        object_sizes=np.array([sizes for _, _, sizes in counted], dtype=bool).reshape(-1, 4),
        kinds=kinds,
        most=most,
    )


def _order(detections: Detections) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows by class, image and score, (N,), and their places in image and class, (N,)."""
    images = detections.rows_images.astype(np.int32)
    order = np.lexsort((-detections.scores, images, detections.classes))
    return order, places_within(detections.classes[order], images[order])


def _spans(
    classes: npt.NDArray[np.int32], images: npt.NDArray[np.int32]
) -> dict[tuple[int, int], slice]:
    """Return the rows of each image and class, from (N,) classes and (N,) images."""
    starts = np.flatnonzero(places_within(classes, images) == 0)
    ends = np.append(starts, len(classes))[1:]
    keys = zip(images[starts].tolist(), classes[starts].tolist(), strict=True)
    return {
        key: slice(start, end)
        for key, start, end in zip(keys, starts.tolist(), ends.tolist(), strict=True)
    }


def _objects(truth: Truth, positions: dict[int, int], *, masks: bool) -> _Objects:
    """Return the annotations of each image and class, with what IoU is computed from."""
    found: _Objects = defaultdict(list)
    for image in truth.images:
        size = image["height"], image["width"]
        for annotation in image["annotations"]:
            if masks and "segmentation" not in annotation:
                continue
            shape = segmentation_rle(annotation["segmentation"], *size) if masks else None
            key = (positions[image["image_id"]], annotation["category_id"])
            found[key].append({**annotation, "shape": shape or annotation["bbox"]})
    return found


def _match_kind(
    spans: dict[tuple[int, int], slice], shapes: Any, areas: Floats, objects: _Objects
) -> KindMatches:
    """Return how N detections with areas (N,) fared, (N, 4, 10), by boxes or by masks."""
    groups = [
        _group(rows, shapes[rows], objects[key]) for key, rows in spans.items() if key in objects
    ]
    matched, ignored = match_groups(groups, len(areas))
    outside = np.stack([(areas < low) | (areas > high) for low, high in AREAS], axis=1)
    return KindMatches(matched, ignored | (~matched & outside[:, :, None]))


def _group(rows: slice, shapes: Any, objects: list[dict[str, Any]]) -> ImageClassGroup:
    crowd = [annotation["iscrowd"] for annotation in objects]
    ious = rle_tools.iou(shapes, [annotation["shape"] for annotation in objects], crowd)
    sizes = np.array([_in_areas(annotation["area"]) for annotation in objects]).T
    is_crowd = np.array(crowd, dtype=bool)
    return ImageClassGroup(rows, np.asarray(ious), is_crowd, is_crowd | ~sizes)


def _in_areas(area: float) -> list[bool]:
    return [low <= area <= high for low, high in AREAS]
