"""COCO evaluation, loading included: ours against pycocotools.

::

    python benchmarks/perf/evaluation_speed.py            # 5,000 images, boxes and masks
    python benchmarks/perf/evaluation_speed.py 1 500      # 1 round of 500 images

Ours reads the annotation file with all its checks and our file of detections; pycocotools reads
the annotation file and a results file in JSON. Both end with the twelve numbers, which have to
be equal.
"""

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.perf.measure import Candidate, alternate, print_comparison

HEIGHT, WIDTH = 480, 640
DETECTIONS = 100  # an image, COCO's limit
NUM_CLASSES = 80
_IMAGES = 5_000  # COCO val2017
_OBJECTS = 8  # an image on average; 7.4 in COCO val2017
_FOUND = 0.6  # share of detections that are jittered copies of an object
_ROUNDS = 2
_CORNERS = 16  # of a mask's outline
_HERE = "benchmarks.perf.evaluation_speed"


def main(args: list[str]) -> None:
    """Compare boxes, then masks.

    Args:
        args: Number of rounds, then number of images; both may be left out.
    """
    rounds = int(args[0]) if args else _ROUNDS
    num_images = int(args[1]) if len(args) > 1 else _IMAGES
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder), num_images)
        for kind in ("bbox", "segm"):
            sides = [
                Candidate(f"ours {kind}", f"{_HERE}:ours", (folder, kind)),
                Candidate(f"pycocotools {kind}", f"{_HERE}:pycocotools", (folder, kind)),
            ]
            comparison = alternate(sides, rounds=rounds)
            what = f"{num_images} images x {DETECTIONS} detections"
            print_comparison(f"{what}, {kind}", comparison)
        for kind in ("bbox", "segm"):
            results = [side(folder, kind)() for side in (ours, pycocotools)]
            print(f"  {kind} numbers equal: {results[0] == results[1]}")


def ours(folder: str, kind: str) -> Callable[[], object]:
    """Return our evaluation as a step that returns twelve numbers."""
    from detection.data.dataset import CocoData, load_truth
    from detection.scoring.cocoeval import get_engine, summarize
    from detection.scoring.detections import read_detections

    def step() -> list[float | None]:
        truth = load_truth(CocoData("synthetic", Path(folder)), "val")
        detections = read_detections(Path(folder) / "detections.npz")
        chosen: Any = kind
        return list(summarize(get_engine("hotcoco")(truth, detections, chosen)).values())

    return step


def pycocotools(folder: str, kind: str) -> Callable[[], object]:
    """Return pycocotools' evaluation as a step that returns twelve numbers."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def step() -> list[float | None]:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(_annotation_file(Path(folder))))
            engine = COCOeval(truth, truth.loadRes(str(Path(folder) / f"{kind}.json")), kind)
            engine.evaluate()
            engine.accumulate()
            engine.summarize()
        return [None if value == -1 else 100 * value for value in engine.stats.tolist()]

    return step


def make_data(folder: Path, num_images: int) -> None:
    """Write annotations, detections and results files.

    Args:
        folder: Gets all files; ours in COCO's layout.
        num_images: Of 480 x 640 pixels, with 100 detections each.
    """
    from detection.scoring.detections import collect, write_detections

    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    found = []
    for image_id in range(1, num_images + 1):
        objects = make_objects(rng, image_id, len(annotations))
        annotations += objects
        found.append(_detections(rng, image_id, objects))
    content = {
        "images": [
            {"id": i + 1, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH}
            for i in range(num_images)
        ],
        "annotations": annotations,
        "categories": [{"id": c, "name": f"class {c}"} for c in range(NUM_CLASSES)],
    }
    path = _annotation_file(folder)
    path.parent.mkdir()
    path.write_text(json.dumps(content), "utf-8")
    detections = collect(found)
    write_detections(folder / "detections.npz", detections)
    for kind in ("bbox", "segm"):
        (folder / f"{kind}.json").write_text(json.dumps(_results(detections, kind)), "utf-8")


def _annotation_file(folder: Path) -> Path:
    return folder / "annotations" / "instances_val2017.json"


def make_objects(rng: np.random.Generator, image_id: int, before: int) -> list[dict[str, Any]]:
    """Return annotations with polygons of all sizes, every eightieth or so a crowd.

    Args:
        rng: What they are drawn from.
        image_id: Of their image.
        before: Number of annotations that exist, for their ids.
    """
    objects = []
    for number in range(int(rng.integers(1, 2 * _OBJECTS))):
        outline = _outline(rng)
        low, size = outline.min(0), np.ptp(outline, axis=0)
        objects.append(
            {
                "id": before + number + 1,
                "image_id": image_id,
                "category_id": int(rng.integers(0, NUM_CLASSES)),
                "bbox": [*low.tolist(), *size.tolist()],
                "area": float(size.prod() * 0.75),
                "iscrowd": int(rng.random() < 1 / 80),
                "segmentation": [outline.reshape(-1).tolist()],
            }
        )
    return objects


def _outline(rng: np.random.Generator) -> Any:
    """Return the corners of a star-shaped object inside the image."""
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    radius = np.exp(rng.uniform(np.log(5), np.log(110))) * rng.uniform(0.7, 1, _CORNERS)
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
    center = rng.uniform(radius.max(), np.array([WIDTH, HEIGHT]) - radius.max())
    return (rays + center).round(2)


def _detections(rng: np.random.Generator, image_id: int, objects: list[dict[str, Any]]) -> Any:
    """Return jittered copies of the objects, some of a wrong class, and outlines of nothing."""
    import pycocotools.mask as rle_tools

    from detection.scoring.detections import ImageDetections

    outlines, classes = [], []
    for _ in range(DETECTIONS):
        chosen = objects[int(rng.integers(0, len(objects)))]
        if rng.random() < _FOUND:
            outline = np.reshape(chosen["segmentation"][0], (-1, 2))
            shift = rng.normal(0, 0.08, 2) * np.ptp(outline, axis=0)
            outlines.append((outline + shift).clip(0, (WIDTH, HEIGHT)))
        else:
            outlines.append(_outline(rng))
        wrong = rng.random() < 0.2
        classes.append(rng.integers(0, NUM_CLASSES) if wrong else chosen["category_id"])
    rles = rle_tools.frPyObjects([o.reshape(-1).tolist() for o in outlines], HEIGHT, WIDTH)
    scores = rng.random(DETECTIONS)
    return ImageDetections(
        image_id,
        HEIGHT,
        WIDTH,
        boxes=np.array([[*o.min(0), *o.max(0)] for o in outlines], dtype=np.float32),
        # Every third image has ties.
        scores=np.sort(scores.round(2) if image_id % 3 == 0 else scores)[::-1].astype(np.float32),
        classes=np.array(classes, dtype=np.int32),
        masks=[rle["counts"] for rle in rles],
    )


def _results(detections: Any, kind: str) -> list[dict[str, Any]]:
    """Return COCO's results format, masks without boxes."""
    images = detections.image_ids[detections.rows_images].tolist()
    if kind == "bbox":
        boxes = detections.boxes.copy()
        boxes[:, 2:] -= boxes[:, :2]
        places = [{"bbox": box} for box in boxes.tolist()]
    else:
        places = [
            {"segmentation": {**rle, "counts": rle["counts"].decode()}} for rle in detections.rles()
        ]
    columns = zip(
        images, detections.classes.tolist(), detections.scores.tolist(), places, strict=True
    )
    return [{"image_id": i, "category_id": c, "score": s, **place} for i, c, s, place in columns]


if __name__ == "__main__":
    main(sys.argv[1:])
