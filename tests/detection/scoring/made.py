"""Made ground truth and detections of it, and what pycocotools says of them."""

import contextlib
import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as rle_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# With gaps and out of order, as COCO's.
CATEGORIES = {7: "cat", 3: "dog", 90: "bird"}
WIDTH, HEIGHT = 320, 240


def made_annotation(rng: np.random.Generator, number: int, image_id: int) -> dict[str, Any]:
    side = rng.choice([8, 25, 70, 190], 2) * rng.uniform(0.6, 1, 2)
    x, y = rng.uniform(0, np.array([WIDTH, HEIGHT]) - side)
    w, h = side
    polygon = np.round([x, y, x + w, y, x + w, y + h, x + w / 2, y + 0.6 * h, x, y + h], 2).tolist()
    rle = rle_tools.merge(rle_tools.frPyObjects([polygon], HEIGHT, WIDTH))
    crowd = int(number % 9 == 0)
    encoded = {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}
    return {
        "id": number,
        "image_id": image_id,
        "category_id": int(rng.choice(list(CATEGORIES))),
        "bbox": [float(v) for v in np.round([x, y, w, h], 2)],
        "iscrowd": crowd,
        "area": float(rle_tools.area(rle)),
        "segmentation": encoded if crowd else [polygon],
    }


def moved(rng: np.random.Generator, annotation: dict[str, Any]) -> dict[str, Any]:
    segmentation = annotation["segmentation"]
    rle = (
        rle_tools.merge(rle_tools.frPyObjects(segmentation, HEIGHT, WIDTH))
        if isinstance(segmentation, list)
        else segmentation
    )
    x, y, w, h = annotation["bbox"]
    dx, dy = rng.normal(0, 0.12, 2) * (w, h)
    mask = np.roll(rle_tools.decode(rle), (int(dy), int(dx)), (0, 1))
    counts = rle_tools.encode(np.asfortranarray(mask))["counts"].decode()
    left, top = max(0.0, x + dx), max(0.0, y + dy)
    size = rng.uniform(0.85, 1.15, 2) * (w, h)
    wrong = rng.random() < 0.2
    return {
        "image_id": annotation["image_id"],
        "category_id": int(rng.choice(list(CATEGORIES))) if wrong else annotation["category_id"],
        # Doubles that float32 cannot hold.
        "bbox": [left, top, min(size[0], WIDTH - left), min(size[1], HEIGHT - top)],
        # Few digits, so that many scores tie.
        "score": round(float(rng.random()), 2),
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts},
    }


def corners(one: dict[str, Any]) -> list[float]:
    x, y, w, h = one["bbox"]
    return [x, y, x + w, y + h]


def by_pycocotools(truth: Path, results: list[dict[str, Any]], kind: str) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(str(truth))
        found = known.loadRes(copy.deepcopy(results))
        engine = COCOeval(known, found, kind)
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return [100 * float(value) for value in engine.stats]
