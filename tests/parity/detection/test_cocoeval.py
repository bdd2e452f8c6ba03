"""hotcoco against pycocotools: the same precision and recall arrays to the last bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as rle_tools
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.data.dataset import Truth, find_coco, load_truth
from detection.data.segmentation import segmentation_rle
from detection.scoring.cocoeval import get_engine, score, summarize
from detection.scoring.detections import Detections, ImageDetections, collect

SIZE = (120, 160)
NUM_CLASSES = 6


def make_truth(rng: np.random.Generator, num_images: int = 12) -> Truth:
    """Objects of all sizes, crowds, a box without area, images and classes without objects."""
    images: list[dict[str, Any]] = []
    for image_id in range(num_images):
        annotations = [_object(rng, 100 * image_id + n + 1) for n in range(int(rng.integers(0, 9)))]
        images.append(
            {
                "image_id": image_id * 7 + 3,
                "file_name": "",
                "height": SIZE[0],
                "width": SIZE[1],
                "annotations": annotations,
            }
        )
    images[0]["annotations"] = [_object(rng, 99_999) | {"bbox": [5.0, 5.0, 0.0, 9.0], "area": 0.0}]
    return Truth(images, tuple(f"class {c}" for c in range(NUM_CLASSES)))


def _object(rng: np.random.Generator, number: int) -> dict[str, Any]:
    side = rng.choice([6, 20, 60, 110], 2) * rng.uniform(0.6, 1, 2)
    x, y = rng.uniform(0, np.array([SIZE[1], SIZE[0]]) - side)
    w, h = side
    box = np.round([x, y, w, h], 2).tolist()
    polygon = [x, y, x + w, y, x + w, y + h, x + w / 2, y + 0.6 * h, x, y + h]
    rle = segmentation_rle([np.round(polygon, 2).tolist()], *SIZE)
    crowd = int(rng.random() < 0.15)
    return {
        "id": number,
        "bbox": box,
        "bbox_mode": 1,
        # The last class never occurs.
        "category_id": int(rng.integers(0, NUM_CLASSES - 1)),
        "iscrowd": crowd,
        "area": float(rle_tools.area(rle)),
        "segmentation": {**rle, "counts": rle["counts"].decode()},
    }


def jitter(rng: np.random.Generator, truth: Truth, copies: int, digits: int) -> Detections:
    """Shifted copies of the truth, some of a wrong class, scores rounded so that many tie."""
    images = []
    for image in truth.images:
        size = (image["height"], image["width"])
        boxes, masks, classes = [], [], []
        for annotation in image["annotations"]:
            x, y, w, h = annotation["bbox"]
            mask = rle_tools.decode(segmentation_rle(annotation["segmentation"], *size))
            for _ in range(int(rng.integers(0, copies + 1))):
                dx, dy = (rng.normal(0, 0.12, 2) * (w, h)).round().astype(int)
                boxes.append([x + dx, y + dy, x + dx + w * rng.uniform(0.8, 1.2), y + dy + h])
                moved = np.asfortranarray(np.roll(mask, (dy, dx), (0, 1)))
                masks.append(rle_tools.encode(moved)["counts"])
                wrong = rng.random() < 0.2
                known = annotation["category_id"]
                classes.append(rng.integers(0, len(truth.class_names)) if wrong else known)
        images.append(
            ImageDetections(
                image["image_id"],
                *size,
                np.array(boxes, dtype=np.float32).reshape(-1, 4),
                rng.random(len(boxes)).round(digits).astype(np.float32),
                np.array(classes, dtype=np.int32),
                masks,
            )
        )
    return collect(images)


def assert_equal(truth: Truth, detections: Detections) -> None:
    for kind in ("bbox", "segm"):
        ours, theirs = (
            get_engine(name)(truth, detections, kind) for name in ("hotcoco", "pycocotools")
        )
        assert np.array_equal(ours.precision, theirs.precision)
        assert np.array_equal(ours.recall, theirs.recall)
    assert score(truth, detections).metrics == score(truth, detections, "pycocotools").metrics


@pytest.mark.parametrize(
    ("copies", "digits"),
    [(3, 7), (3, 1), (3, 0), (40, 2), (0, 1)],
    ids=["plain", "ties", "two scores", "over 100 an image", "none"],
)
@pytest.mark.parametrize("seed", range(2))
def test_engines_agree(copies: int, digits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = make_truth(rng)
    detections = jitter(rng, truth, copies, digits)
    if copies == 40:
        assert np.diff(detections.ends).max() > 100
    assert_equal(truth, detections)


def test_engines_agree_on_equal_scores_and_odd_boxes() -> None:
    rng = np.random.default_rng(5)
    truth = make_truth(rng)
    detections = jitter(rng, truth, 4, 3)
    detections.scores[:] = 0.5
    detections.boxes[:20] = 0
    detections.boxes[20:40] -= 200
    assert_equal(truth, detections)


def test_engines_agree_on_real_ground_truth(shared_data: Path) -> None:
    truth = load_truth(find_coco(shared_data / "coco-dev"), "val", limit_images=12)
    assert any(a["iscrowd"] for image in truth.images for a in image["annotations"])
    detections = jitter(np.random.default_rng(0), truth, 4, 2)
    assert_equal(truth, detections)
    ap = score(truth, detections).metrics["APbox"]
    assert ap is not None
    assert 5 < ap < 90


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_our_summary_is_pycocotools_own(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """From a file of results through COCO's own functions, nothing of ours between."""
    rng = np.random.default_rng(1)
    truth = make_truth(rng)
    detections = jitter(rng, truth, 3, 2)
    known = COCO()
    known.dataset = {
        "images": [{"id": i["image_id"], "height": 120, "width": 160} for i in truth.images],
        "categories": [{"id": c, "name": str(c)} for c in range(NUM_CLASSES)],
        "annotations": [
            {**a, "image_id": i["image_id"]} for i in truth.images for a in i["annotations"]
        ],
    }
    known.createIndex()
    boxes = detections.boxes.astype(np.float32).copy()
    boxes[:, 2:] -= boxes[:, :2]
    results = []
    for row, image in enumerate(detections.rows_images):
        result = {
            "image_id": int(detections.image_ids[image]),
            "category_id": int(detections.classes[row]),
            "score": float(detections.scores[row]),
        }
        if kind == "bbox":
            result["bbox"] = boxes[row].tolist()
        else:
            result["segmentation"] = detections.rles()[row]
        results.append(result)
    engine = COCOeval(known, known.loadRes(results), kind)
    engine.evaluate()
    engine.accumulate()
    engine.summarize()
    capsys.readouterr()
    ours = summarize(get_engine("hotcoco")(truth, detections, kind))
    expected = [None if value == -1 else 100 * value for value in engine.stats]
    assert list(ours.values()) == expected
