"""Detections of several rows on the same few images.

Each image is in the page once; boxes and outlines of masks are numbers that the page draws, so that
any two rows can be looked at beside the ground truth.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backbones.base.errors import UserError
from benchmarks.by_image.runs import NoImagesError
from benchmarks.leaderboard.page.pictures import as_webp, refuse_large
from benchmarks.leaderboard.rows import Table
from benchmarks.leaderboard.statistics.table import done_runs
from benchmarks.leaderboard.statistics.tested import detections_of, truth_of
from benchmarks.store.folders import Scan, Store
from benchmarks.store.record import RunRecord
from benchmarks.store.record_file import BadRecordError
from detection.data.dataset import Truth
from detection.data.pixels import pixels_of
from detection.data.segmentation import segmentation_rle
from detection.scoring.detections import Detections
from detection.scoring.outlines import outlines

# Corners, class, score (None for an object), outlines of the mask (None for no mask).
Shape = list[Any]

_IMAGES = 6
_ROWS = 24
_LONGEST_SIDE = 320
_BOXES = 15
# Below this a box says more about the detector's doubts than about what it found.
_LEAST_SCORE = 0.3
# Bytes of all galleries of a page, packed.
_BUDGET = 150_000


def galleries(tables: Sequence[Table], scan: Scan, store: Store) -> dict[str, Any]:
    """Return the gallery of each table whose runs kept their detections, by its position.

    The best rows of the first tables are in it, as many as there is room for.

    Args:
        tables: As the page shows them.
        scan: What the folder of runs holds.
        store: The folder.
    """
    found = {}
    left = _BUDGET
    for position, table in enumerate(tables):
        if table.joined or left <= 0:
            continue
        rows = _rows(table, scan.records, store)
        gallery = _gallery(rows, store, left) if rows else None
        if gallery:
            found[str(position)] = gallery
            left -= _size(gallery)
    return found


def _rows(
    table: Table, records: Mapping[str, RunRecord], store: Store
) -> dict[int, tuple[RunRecord, Detections]]:
    """Return a run and its detections for each of the best rows, by the row's position."""
    found = {}
    for position, row in enumerate(table.rows[:_ROWS]):
        for record in done_runs(row, records):
            with suppress(NoImagesError):
                found[position] = record, detections_of(store, record)
                break
    return found


def _gallery(
    rows: Mapping[int, tuple[RunRecord, Detections]], store: Store, room: int
) -> dict[str, Any] | None:
    """Return the gallery of a table, None where the data are not here or have no room."""
    try:
        truth = truth_of(store, next(iter(rows.values()))[0], ())
        chosen = _choose(truth)
        images = [_image(image) for image in chosen]
    except (BadRecordError, UserError, OSError, ValueError, Image.DecompressionBombError):
        return None
    gallery: dict[str, Any] = {"classes": list(truth.class_names), "images": images, "rows": {}}
    room -= _size(gallery)
    for position, (_, detections) in rows.items():
        found = [_of_image(detections, image["image_id"]) for image in chosen]
        room -= _size(found)
        if room < 0:
            break
        gallery["rows"][str(position)] = found
    return gallery if gallery["rows"] else None


def _size(content: Any) -> int:
    """Return the bytes of a part of the page, had it to be packed alone."""
    return len(zlib.compress(json.dumps(content).encode())) * 4 // 3


def _choose(truth: Truth) -> list[dict[str, Any]]:
    """Return a few images that have a few objects each, spread over the set."""
    good = [image for image in truth.images if 2 <= len(image["annotations"]) <= 8]
    good = good or truth.images
    places = np.linspace(0, len(good) - 1, min(_IMAGES, len(good))).round().astype(int)
    return [good[place] for place in places.tolist()]


def _image(image: Mapping[str, Any]) -> dict[str, Any]:
    refuse_large(image["width"], image["height"])
    return {
        "data": as_webp(pixels_of(image), _LONGEST_SIDE),
        "name": Path(image["file_name"]).name,
        "width": image["width"],
        "height": image["height"],
        "truth": [_object(image, annotation) for annotation in image["annotations"]],
    }


def _object(image: Mapping[str, Any], annotation: Mapping[str, Any]) -> Shape:
    x, y, width, height = annotation["bbox"]
    mask = annotation.get("segmentation")
    rle = segmentation_rle(mask, image["height"], image["width"]) if mask else None
    return _shape((x, y, x + width, y + height), annotation["category_id"], None, rle)


def _of_image(detections: Detections, image_id: int) -> list[Shape]:
    """Return what a detector is confident of on an image."""
    places = np.flatnonzero(detections.image_ids == image_id)
    if not len(places):
        return []
    place = int(places[0])
    start = int(detections.ends[place - 1]) if place else 0
    end = int(detections.ends[place])
    rows = [row for row in range(start, end) if detections.scores[row] >= _LEAST_SCORE][:_BOXES]
    size, masks = detections.sizes[place].tolist(), detections.masks
    return [
        _shape(
            detections.boxes[row].tolist(),
            int(detections.classes[row]),
            round(float(detections.scores[row]), 2),
            {"size": size, "counts": masks[row]} if masks is not None else None,
        )
        for row in rows
    ]


def _shape(
    box: Sequence[float], kind: int, score: float | None, rle: Mapping[str, Any] | None
) -> Shape:
    mask = None if rle is None else outlines(rle, _LONGEST_SIDE)
    return [*(round(value, 1) for value in box), kind, score, mask]
