"""From truth and detections to matches, by pycocotools' IoU and its rules."""

from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pycocotools.mask as rle_tools

from detection.cocoeval import areas_of, xywh_of
from detection.dataset import Truth
from detection.detections import Detections
from detection.greedy import Group, match_groups
from detection.matches import AREAS, MOST_DETECTIONS, KindMatches, Matches, places_within
from detection.segmentation import segmentation_rle

Floats = npt.NDArray[np.float64]
_Objects = dict[tuple[int, int], list[dict[str, Any]]]


def match(truth: Truth, detections: Detections) -> Matches:
    """Match detections with the truth.

    Args:
        truth: Images, annotations and classes.
        detections: Of exactly these images, checked.
    """
    positions = {int(image_id): n for n, image_id in enumerate(detections.image_ids)}
    order, places = _order(detections)
    order = order[places < MOST_DETECTIONS]
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
    return Matches(
        image_ids=detections.image_ids,
        class_names=truth.class_names,
        images=images,
        classes=classes,
        scores=detections.scores[order],
        object_images=np.array([image for image, _, _ in counted], dtype=np.int32),
        object_classes=np.array([kind for _, kind, _ in counted], dtype=np.int32),
        object_sizes=np.array([sizes for _, _, sizes in counted], dtype=bool).reshape(-1, 4),
        kinds=kinds,
    )


def _order(detections: Detections) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows by class, image and score, and each one's place in its image and class."""
    images = detections.rows_images.astype(np.int32)
    order = np.lexsort((-detections.scores, images, detections.classes))
    return order, places_within(detections.classes[order], images[order])


def _spans(
    classes: npt.NDArray[np.int32], images: npt.NDArray[np.int32]
) -> dict[tuple[int, int], slice]:
    """Return the rows of each image and class."""
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
    groups = [
        _group(rows, shapes[rows], objects[key]) for key, rows in spans.items() if key in objects
    ]
    matched, ignored = match_groups(groups, len(areas))
    outside = np.stack([(areas < low) | (areas > high) for low, high in AREAS], axis=1)
    return KindMatches(matched, ignored | (~matched & outside[:, :, None]))


def _group(rows: slice, shapes: Any, objects: list[dict[str, Any]]) -> Group:
    crowd = [annotation["iscrowd"] for annotation in objects]
    ious = rle_tools.iou(shapes, [annotation["shape"] for annotation in objects], crowd)
    sizes = np.array([_in_areas(annotation["area"]) for annotation in objects]).T
    is_crowd = np.array(crowd, dtype=bool)
    return Group(rows, np.asarray(ious), is_crowd, is_crowd | ~sizes)


def _in_areas(area: float) -> list[bool]:
    return [low <= area <= high for low, high in AREAS]
