"""Detections of several rows on the same few images. Imports no torch.

Each image is in the page once; boxes are numbers that the page draws, so that any two rows can be
looked at beside the ground truth.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import UserError
from benchmarks.leaderboard.page.pictures import thumbnail
from benchmarks.leaderboard.rows import Table
from benchmarks.leaderboard.statistics.runs import NoImagesError
from benchmarks.leaderboard.statistics.table import done_runs
from benchmarks.leaderboard.statistics.tested import detections_of, truth_of
from benchmarks.sweep.record import RunRecord
from benchmarks.sweep.record_text import BadRecordError
from benchmarks.sweep.store import Scan, Store
from detection.dataset import Truth
from detection.detections import Detections

_IMAGES = 6
_ROWS = 24
_LONGEST_SIDE = 320
_BOXES = 15
# Below this a box says more about the detector's doubts than about what it found.
_LEAST_SCORE = 0.3


def galleries(tables: Sequence[Table], scan: Scan, store: Store) -> dict[str, Any]:
    """Return the gallery of each table whose runs kept their detections, by its position.

    Args:
        tables: As the page shows them.
        scan: What the folder of runs holds.
        store: The folder.
    """
    found = {}
    for position, table in enumerate(tables):
        if table.joined:
            continue
        rows = _rows(table, scan.records, store)
        if rows:
            gallery = _gallery(rows, store)
            if gallery:
                found[str(position)] = gallery
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
    rows: Mapping[int, tuple[RunRecord, Detections]], store: Store
) -> dict[str, Any] | None:
    """Return the gallery of a table, None where the data are not here."""
    try:
        truth = truth_of(store, next(iter(rows.values()))[0], ())
        chosen = _choose(truth)
        images = [_image(image) for image in chosen]
    except (BadRecordError, UserError, OSError):
        return None
    boxes = {
        str(position): [_of_image(detections, image["image_id"]) for image in chosen]
        for position, (_, detections) in rows.items()
    }
    return {"classes": list(truth.class_names), "images": images, "rows": boxes}


def _choose(truth: Truth) -> list[dict[str, Any]]:
    """Return a few images that have a few objects each, spread over the set."""
    good = [image for image in truth.images if 2 <= len(image["annotations"]) <= 8]
    good = good or truth.images
    places = np.linspace(0, len(good) - 1, min(_IMAGES, len(good))).round().astype(int)
    return [good[place] for place in places.tolist()]


def _image(image: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(image["file_name"])
    truth = [
        [*(round(float(v), 1) for v in _corners(annotation["bbox"])), annotation["category_id"]]
        for annotation in image["annotations"]
    ]
    return {
        "data": thumbnail(path.read_bytes(), _LONGEST_SIDE),
        "name": path.name,
        "width": image["width"],
        "height": image["height"],
        "truth": truth,
    }


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return x, y, x + width, y + height


def _of_image(detections: Detections, image_id: int) -> list[list[float]]:
    """Return the confident boxes on an image: corners, class, score."""
    places = np.flatnonzero(detections.image_ids == image_id)
    if not len(places):
        return []
    place = int(places[0])
    start = int(detections.ends[place - 1]) if place else 0
    end = int(detections.ends[place])
    rows = [row for row in range(start, end) if detections.scores[row] >= _LEAST_SCORE][:_BOXES]
    return [
        [
            *(round(float(value), 1) for value in detections.boxes[row]),
            int(detections.classes[row]),
            round(float(detections.scores[row]), 2),
        ]
        for row in rows
    ]
