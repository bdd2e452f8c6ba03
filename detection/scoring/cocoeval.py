"""COCO's metrics by one of two engines, summed up by one rule.

pycocotools is what papers report. hotcoco gives the same precision and recall arrays to the last
bit (``tests/parity/test_cocoeval.py``) in a fraction of the time. The 12 numbers are taken from
those arrays here, so both engines share every other step.
"""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import hotcoco
import numpy as np
import numpy.typing as npt
import pycocotools.mask as rle_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from backbones.base.errors import UserError
from detection.data.dataset import Truth
from detection.scoring.detections import Detections, check

Kind = Literal["bbox", "segm"]
Floats = npt.NDArray[np.float64]

# Positions on COCO's axes, fixed by both engines' defaults (pycocotools ``Params.setDetParams``).
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
_BEST_1, _BEST_10, _BEST_100 = range(3)
_IOU_50, _IOU_75 = 0, 5
# COCO's own mark for a cell without ground truth.
_NONE = -1.0


@dataclass(frozen=True)
class CocoScores:
    """COCO's metrics in percent, None where there is no ground truth.

    Attributes:
        metrics: APbox, AP50box, AP75box, APsbox, APmbox, APlbox, AR1box, AR10box, AR100box,
            ARsbox, ARmbox, ARlbox; with masks the same twelve ending in "mask".
        per_class: Class name to its APbox and APmask.
        evaluator: Engine and its version.
    """

    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    evaluator: str


@dataclass(frozen=True)
class Curves:
    """What an engine returns, with COCO's axes.

    Attributes:
        precision: (10 IoUs, 101 recalls, classes, 4 areas, 3 limits), -1 without ground truth.
        recall: (10 IoUs, classes, 4 areas, 3 limits), -1 without ground truth.
    """

    precision: Floats
    recall: Floats


def score(truth: Truth, detections: Detections, evaluator: str = "hotcoco") -> CocoScores:
    """Score detections against the truth.

    Args:
        truth: Images, annotations and classes; ``detections`` has exactly these images.
        detections: Of all images.
        evaluator: "hotcoco" or "pycocotools".

    Raises:
        UserError: The evaluator is unknown, or the detections cannot be scored.
    """
    curves_of = get_engine(evaluator)
    check(detections, len(truth.class_names))
    kinds: list[tuple[Kind, str]] = [("bbox", "box")]
    if detections.masks is not None and truth.has_masks():
        kinds.append(("segm", "mask"))
    metrics: dict[str, float | None] = {}
    per_class: dict[str, dict[str, float | None]] = {name: {} for name in truth.class_names}
    for kind, suffix in kinds:
        curves = curves_of(truth, detections, kind)
        metrics.update({name + suffix: value for name, value in summarize(curves).items()})
        for index, name in enumerate(truth.class_names):
            cells = curves.precision[:, :, index, _ALL, _BEST_100]
            per_class[name][f"AP{suffix}"] = _percent(cells)
    return CocoScores(metrics, per_class, f"{evaluator} {version(evaluator)}")


def get_engine(name: str) -> Callable[[Truth, Detections, Kind], Curves]:
    """Return an engine by name.

    Raises:
        UserError: There is none of this name.
    """
    engines = {"hotcoco": _hotcoco, "pycocotools": _pycocotools}
    if name not in engines:
        raise UserError(f"There is no evaluator {name!r}; it can be {' or '.join(engines)}.")
    return engines[name]


def summarize(curves: Curves) -> dict[str, float | None]:
    """Return COCO's twelve numbers in percent (pycocotools ``COCOeval.summarize``)."""
    precision, recall = curves.precision, curves.recall
    return {
        "AP": _percent(precision[..., _ALL, _BEST_100]),
        "AP50": _percent(precision[_IOU_50, ..., _ALL, _BEST_100]),
        "AP75": _percent(precision[_IOU_75, ..., _ALL, _BEST_100]),
        "APs": _percent(precision[..., _SMALL, _BEST_100]),
        "APm": _percent(precision[..., _MEDIUM, _BEST_100]),
        "APl": _percent(precision[..., _LARGE, _BEST_100]),
        "AR1": _percent(recall[..., _ALL, _BEST_1]),
        "AR10": _percent(recall[..., _ALL, _BEST_10]),
        "AR100": _percent(recall[..., _ALL, _BEST_100]),
        "ARs": _percent(recall[..., _SMALL, _BEST_100]),
        "ARm": _percent(recall[..., _MEDIUM, _BEST_100]),
        "ARl": _percent(recall[..., _LARGE, _BEST_100]),
    }


def _percent(cells: Floats) -> float | None:
    known = cells[cells > _NONE]
    return 100 * float(np.mean(known)) if known.size else None


def _hotcoco(truth: Truth, detections: Detections, kind: Kind) -> Curves:
    annotations = _annotations(truth, kind)
    known = hotcoco.COCO.from_arrays(
        _images(truth),
        _categories(truth),
        np.array([a["image_id"] for a in annotations], dtype=np.int64),
        np.array([a["category_id"] for a in annotations], dtype=np.int64),
        np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4),
        ids=np.array([a["id"] for a in annotations], dtype=np.int64),
        area=np.array([a["area"] for a in annotations], dtype=np.float64),
        iscrowd=np.array([a["iscrowd"] for a in annotations], dtype=np.int64),
        segmentation=[a["segmentation"] for a in annotations] if kind == "segm" else None,
    )
    rows = _rows(detections)
    if kind == "segm" and len(detections):
        rles: list[Any] = detections.rles()
        found = known.load_res(rows, segmentation=rles)
        # Rows carry boxes, whose area would stand for the mask's; pycocotools only does that to
        # results files that hold boxes beside masks.
        found.update_anns(ids=np.arange(1, len(rles) + 1), area=areas_of(rles))
    else:
        found = known.load_res(rows)
    engine = hotcoco.COCOeval(known, found, kind)
    engine.evaluate()
    engine.accumulate()
    return _curves(engine)


def areas_of(rles: list[dict[str, Any]]) -> Floats:
    """Return all masks' areas in pixels."""
    # pycocotools 2.0.11 counts the masks of one call in eight bits.
    chunks = [rles[start : start + 255] for start in range(0, len(rles), 255)]
    return np.concatenate([rle_tools.area(chunk) for chunk in chunks]).astype(np.float64)


def _pycocotools(truth: Truth, detections: Detections, kind: Kind) -> Curves:
    with contextlib.redirect_stdout(io.StringIO()):
        known, found = COCO(), COCO()
        known.dataset = {
            "images": _images(truth),
            "categories": _categories(truth),
            "annotations": _annotations(truth, kind),
        }
        known.createIndex()
        if len(detections):
            found = known.loadRes(_results(detections, kind))
        else:
            # loadRes trips over an empty list.
            found.dataset = {**known.dataset, "annotations": []}
            found.createIndex()
        engine = COCOeval(known, found, kind)
        engine.evaluate()
        engine.accumulate()
    return _curves(engine)


def _curves(engine: Any) -> Curves:
    return Curves(engine.eval["precision"], engine.eval["recall"])


def _images(truth: Truth) -> list[dict[str, Any]]:
    return [
        {"id": i["image_id"], "height": i["height"], "width": i["width"], "file_name": ""}
        for i in truth.images
    ]


def _categories(truth: Truth) -> list[dict[str, Any]]:
    return [{"id": index, "name": name} for index, name in enumerate(truth.class_names)]


def _annotations(truth: Truth, kind: Kind) -> list[dict[str, Any]]:
    """Return copies, because engines write into them; for masks, without crowds that have none."""
    return [
        {**annotation, "image_id": image["image_id"]}
        for image in truth.images
        for annotation in image["annotations"]
        if kind == "bbox" or "segmentation" in annotation
    ]


def xywh_of(detections: Detections) -> npt.NDArray[np.float32]:
    """Return boxes as x, y, width, height; subtracted in float32, as detectron2 does."""
    boxes = detections.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def _rows(detections: Detections) -> Floats:
    """Return one row of numbers a detection: image, x, y, width, height, score, class."""
    images = detections.image_ids[detections.rows_images]
    columns = (images, *xywh_of(detections).T, detections.scores, detections.classes)
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def _results(detections: Detections, kind: Kind) -> list[dict[str, Any]]:
    """Return one dict a detection; masks go without box, whose area would be taken instead."""
    images = detections.image_ids[detections.rows_images].tolist()
    places = xywh_of(detections).tolist() if kind == "bbox" else detections.rles()
    name = "bbox" if kind == "bbox" else "segmentation"
    columns = zip(
        images, detections.classes.tolist(), detections.scores.tolist(), places, strict=True
    )
    return [
        {"image_id": image, "category_id": category, "score": value, name: place}
        for image, category, value, place in columns
    ]
