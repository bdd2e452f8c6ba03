"""COCO's metrics by one of two engines, summed up by one rule.

pycocotools is what papers report. hotcoco gives the same precision and recall arrays to the last
bit (``tests/parity/detection/test_cocoeval.py``) in a fraction of the time. The 12 numbers are
taken from those arrays here, so both engines share every other step.
"""

import contextlib
import io
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, Protocol

import hotcoco
import numpy as np
import numpy.typing as npt
import pycocotools.mask as rle_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from backbones.base.errors import UserError
from backbones.base.reading import reading
from detection.data.dataset import Truth
from detection.scoring.detections import Detections, check
from detection.scoring.matches import MOST_DETECTIONS

Kind = Literal["bbox", "segm"]
Floats = npt.NDArray[np.float64]

# Positions on COCO's axes, fixed by both engines' defaults (pycocotools ``Params.setDetParams``).
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
_BEST_1, _BEST_10, _BEST_100 = range(3)
# Precision is read with as many detections as count.
_MOST = -1
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
        precision: (10 IoUs, 101 recalls, classes, 4 areas, limits), -1 without ground truth; the
            limits are those of ``limits``.
        recall: (10 IoUs, classes, 4 areas, limits), -1 without ground truth.
    """

    precision: Floats
    recall: Floats


def limits(most: int) -> list[int]:
    """Return COCO's numbers of detections that count in an image and class, ascending.

    Args:
        most: What a detector finds in an image; more than COCO's 100 all count.
    """
    return [1, 10, MOST_DETECTIONS, *([most] if most > MOST_DETECTIONS else [])]


def score(
    truth: Truth,
    detections: Detections,
    evaluator: str = "hotcoco",
    most: int = MOST_DETECTIONS,
) -> CocoScores:
    """Score detections against the truth.

    Args:
        truth: Images, annotations and classes; ``detections`` has exactly these images.
        detections: Of all images.
        evaluator: "hotcoco" or "pycocotools".
        most: Detections that count in an image and class, COCO's 100 at least; AR1, AR10 and
            AR100 keep their limits.

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
        with reading(f"the {suffix} detections in {len(truth.images)} images, for {evaluator}"):
            curves = curves_of(truth, detections, kind, most)
        metrics.update({name + suffix: value for name, value in summarize(curves).items()})
        for index, name in enumerate(truth.class_names):
            cells = curves.precision[:, :, index, _ALL, _MOST]
            per_class[name][f"AP{suffix}"] = _percent(cells)
    return CocoScores(metrics, per_class, f"{evaluator} {version(evaluator)}")


class Engine(Protocol):
    """Precision and recall by one implementation."""

    def __call__(
        self, truth: Truth, detections: Detections, kind: Kind, most: int = MOST_DETECTIONS
    ) -> Curves:
        """Return the curves of one kind; the arguments are those of ``score``."""


def get_engine(name: str) -> Engine:
    """Return an engine by name.

    Raises:
        UserError: There is none of this name.
    """
    engines: dict[str, Engine] = {"hotcoco": _hotcoco, "pycocotools": _pycocotools}
    if name not in engines:
        raise UserError(f"There is no evaluator {name!r}; it can be {' or '.join(engines)}.")
    return engines[name]


def summarize(curves: Curves) -> dict[str, float | None]:
    """Return COCO's twelve numbers in percent (pycocotools ``COCOeval.summarize``)."""
    precision, recall = curves.precision, curves.recall
    return {
        "AP": _percent(precision[..., _ALL, _MOST]),
        "AP50": _percent(precision[_IOU_50, ..., _ALL, _MOST]),
        "AP75": _percent(precision[_IOU_75, ..., _ALL, _MOST]),
        "APs": _percent(precision[..., _SMALL, _MOST]),
        "APm": _percent(precision[..., _MEDIUM, _MOST]),
        "APl": _percent(precision[..., _LARGE, _MOST]),
        "AR1": _percent(recall[..., _ALL, _BEST_1]),
        "AR10": _percent(recall[..., _ALL, _BEST_10]),
        "AR100": _percent(recall[..., _ALL, _BEST_100]),
        "ARs": _percent(recall[..., _SMALL, _MOST]),
        "ARm": _percent(recall[..., _MEDIUM, _MOST]),
        "ARl": _percent(recall[..., _LARGE, _MOST]),
    }


def _percent(cells: Floats) -> float | None:
    """Return the mean of the known cells, of any shape, in percent; None where none is known."""
    known = cells[cells > _NONE]
    return 100 * float(np.mean(known)) if known.size else None


def _hotcoco(
    truth: Truth, detections: Detections, kind: Kind, most: int = MOST_DETECTIONS
) -> Curves:
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
    engine.params.max_dets = limits(most)
    engine.evaluate()
    engine.accumulate()
    return _curves(engine)


def areas_of(rles: list[dict[str, Any]]) -> Floats:
    """Return all masks' areas in pixels."""
    # pycocotools 2.0.11 counts the masks of one call in eight bits.
    chunks = [rles[start : start + 255] for start in range(0, len(rles), 255)]
    return np.concatenate([rle_tools.area(chunk) for chunk in chunks]).astype(np.float64)


def _pycocotools(
    truth: Truth, detections: Detections, kind: Kind, most: int = MOST_DETECTIONS
) -> Curves:
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
        engine.params.maxDets = limits(most)
        engine.evaluate()
        engine.accumulate()
    return _curves(engine)


def _curves(engine: Any) -> Curves:
    return Curves(engine.eval["precision"], engine.eval["recall"])


def _images(truth: Truth) -> list[dict[str, Any]]:
    """Return the images, numbered from 1: engines trip over ids that are negative."""
    return [
        {"id": number, "height": i["height"], "width": i["width"], "file_name": ""}
        for number, i in enumerate(_in_order(truth), start=1)
    ]


def _in_order(truth: Truth) -> list[dict[str, Any]]:
    """Return the images by their ids, as detections have them."""
    return sorted(truth.images, key=lambda image: int(image["image_id"]))


def _categories(truth: Truth) -> list[dict[str, Any]]:
    return [{"id": index, "name": name} for index, name in enumerate(truth.class_names)]


def _annotations(truth: Truth, kind: Kind) -> list[dict[str, Any]]:
    """Return copies, because engines write into them; for masks, without crowds that have none.

    Ids run from 1 on: 0 stands for "none" in what engines match, so that an object of this id would
    never be found.
    """
    kept = [
        {**annotation, "image_id": number}
        for number, image in enumerate(_in_order(truth), start=1)
        for annotation in image["annotations"]
        if kind == "bbox" or "segmentation" in annotation
    ]
    return [{**annotation, "id": number} for number, annotation in enumerate(kept, start=1)]


def xywh_of(detections: Detections) -> npt.NDArray[np.floating[Any]]:
    """Return boxes as x, y, width, height, (N, 4).

    A detector's corners are subtracted in float32, as detectron2 does; what another program wrote
    stays as it is.
    """
    if detections.xywh is not None:
        return detections.xywh
    boxes = detections.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def _rows(detections: Detections) -> Floats:
    """Return image, x, y, width, height, score and class of N detections, (N, 7)."""
    columns = (
        detections.rows_images + 1,
        *xywh_of(detections).T,
        detections.scores,
        detections.classes,
    )
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def _results(detections: Detections, kind: Kind) -> list[dict[str, Any]]:
    """Return one dict a detection; masks go without box, whose area would be taken instead."""
    images = (detections.rows_images + 1).tolist()
    places = xywh_of(detections).tolist() if kind == "bbox" else detections.rles()
    name = "bbox" if kind == "bbox" else "segmentation"
    columns = zip(
        images, detections.classes.tolist(), detections.scores.tolist(), places, strict=True
    )
    return [
        {"image_id": image, "category_id": category, "score": value, name: place}
        for image, category, value, place in columns
    ]
