import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.base.errors import UserError
from detection.data.dataset import Truth, find_coco, load_truth
from detection.data.segmentation import segmentation_rle
from detection.scoring.cocoeval import get_engine, score
from detection.scoring.detections import Detections, ImageDetections, collect
from detection.scoring.matches import read_matches, write_matches
from detection.scoring.matching import match
from detection.scoring.resampling import resample

ENGINES = ("hotcoco", "pycocotools")
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@pytest.fixture
def truth(write_coco: Callable[..., Path]) -> Truth:
    return load_truth(find_coco(write_coco()), "val")


def perfect(truth: Truth, *, masks: bool = True, keep: slice = slice(None)) -> Detections:
    images = []
    for image in truth.images:
        objects = image["annotations"][keep]
        size = image["height"], image["width"]
        boxes = np.array([a["bbox"] for a in objects], dtype=np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        rles = [segmentation_rle(a["segmentation"], *size)["counts"] for a in objects if masks]
        images.append(
            ImageDetections(
                image["image_id"],
                *size,
                boxes=boxes,
                scores=np.full(len(objects), 0.9, dtype=np.float32),
                classes=np.array([a["category_id"] for a in objects], dtype=np.int32),
                masks=rles if masks else None,
            )
        )
    return collect(images)


@pytest.mark.parametrize("engine", ENGINES)
def test_perfect_detections_score_100(truth: Truth, engine: str) -> None:
    scores = score(truth, perfect(truth), engine)
    names = {name + kind for name in NAMES for kind in ("box", "mask")}
    assert set(scores.metrics) == names
    for name, value in scores.metrics.items():
        if name.removesuffix("box").removesuffix("mask") in ("APm", "APl", "ARm", "ARl"):
            # There is no ground truth of this size: unknown, neither 0 nor -1.
            assert value is None
        else:
            assert value == pytest.approx(100)
    assert scores.per_class == {
        "cat": {"APbox": pytest.approx(100), "APmask": pytest.approx(100)},
        "dog": {"APbox": pytest.approx(100), "APmask": pytest.approx(100)},
    }
    assert scores.evaluator.startswith(f"{engine} ")


@pytest.mark.parametrize("engine", ENGINES)
def test_no_detections_score_0(truth: Truth, engine: str) -> None:
    metrics = score(truth, perfect(truth, keep=slice(0)), engine).metrics
    assert {metrics[name] for name in ("APbox", "AR100box", "APmask", "APsmask")} == {0.0}
    assert metrics["APlbox"] is None


@pytest.mark.parametrize("engine", ENGINES)
def test_a_class_without_objects_is_unknown(truth: Truth, engine: str) -> None:
    truth = Truth(truth.images, (*truth.class_names, "unicorn"))
    scores = score(truth, perfect(truth), engine)
    assert scores.per_class["unicorn"] == {"APbox": None, "APmask": None}
    assert scores.metrics["APbox"] == pytest.approx(100)


@pytest.mark.parametrize("engine", ENGINES)
def test_boxes_only(truth: Truth, engine: str) -> None:
    scores = score(truth, perfect(truth, masks=False), engine)
    assert set(scores.metrics) == {f"{name}box" for name in NAMES}
    assert set(scores.per_class["cat"]) == {"APbox"}


@pytest.mark.parametrize("engine", ENGINES)
def test_half_found_is_half_recall(truth: Truth, engine: str) -> None:
    metrics = score(truth, perfect(truth, keep=slice(1)), engine).metrics
    assert metrics["AR100box"] == pytest.approx(50)
    assert metrics["APbox"] == pytest.approx(51 / 101 * 100)


@pytest.mark.parametrize("engine", ENGINES)
def test_detections_on_a_crowd_are_no_mistakes(truth: Truth, engine: str) -> None:
    found = perfect(truth)
    without_crowd = score(truth, found, engine).metrics
    for image in truth.images:
        image["annotations"][0]["iscrowd"] = 1
    crowd = score(truth, found, engine).metrics
    assert without_crowd["APbox"] == crowd["APbox"] == pytest.approx(100)


@pytest.mark.parametrize("engine", ENGINES)
def test_size_buckets_of_masks_go_by_mask_area(truth: Truth, engine: str) -> None:
    # 40 x 40 is medium as a box, and the diagonal half of it is small as a mask.
    for image in truth.images:
        image["annotations"] = image["annotations"][:1]
        triangle = [5.0, 5.0, 45.0, 5.0, 5.0, 45.0]
        image["annotations"][0] |= {
            "bbox": [5.0, 5.0, 40.0, 40.0],
            "area": 800.0,
            "segmentation": [triangle],
        }
    found = perfect(truth)
    wrong = copy.deepcopy(found)
    wrong.classes[:] = 1 - wrong.classes
    both = Detections(
        found.image_ids,
        found.sizes,
        found.ends * 2,
        np.repeat(found.boxes, 2, axis=0),
        np.stack([found.scores, np.full_like(found.scores, 0.95)], 1).reshape(-1),
        np.stack([found.classes, wrong.classes], 1).reshape(-1),
        [mask for mask in found.masks or [] for _ in range(2)],
    )
    metrics = score(truth, both, engine).metrics
    # The wrong class counts against the small objects, because its masks are small too.
    assert metrics["APsmask"] is not None
    assert metrics["APsmask"] < 60


def test_truth_is_left_as_it_was(truth: Truth) -> None:
    before = copy.deepcopy(truth)
    for engine in ENGINES:
        score(truth, perfect(truth), engine)
    assert truth == before


def test_refusals(truth: Truth) -> None:
    with pytest.raises(UserError, match="hotcoco or pycocotools"):
        get_engine("cocoapi")
    found = perfect(truth)
    found.scores[2] = np.nan
    for engine in ENGINES:
        with pytest.raises(UserError, match="no number"):
            score(truth, found, engine)


def test_engines_say_nothing(truth: Truth, capfd: pytest.CaptureFixture[str]) -> None:
    for engine in ENGINES:
        score(truth, perfect(truth), engine)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_order_of_masks_and_many_detections(truth: Truth) -> None:
    # More masks than the 255 that pycocotools measures in one call.
    one = perfect(truth)
    many: list[Any] = []
    for index, image in enumerate(truth.images):
        rows = one.rows_images == index
        masks = [m for m, row in zip(one.masks or [], rows, strict=True) if row]
        many.append(
            ImageDetections(
                image["image_id"],
                image["height"],
                image["width"],
                np.tile(one.boxes[rows], (50, 1)),
                np.linspace(0.9, 0.1, 100).astype(np.float32),
                np.tile(one.classes[rows], 50),
                masks * 50,
            )
        )
    results = [score(truth, collect(many), engine).metrics for engine in ENGINES]
    assert results[0] == results[1]


def grid(image_ids: list[int], annotation_ids: list[int], objects: int = 1) -> Any:
    """Truth of ``objects`` boxes an image in a grid, with the ids given, and detections of all."""
    images, found = [], []
    numbers = iter(annotation_ids)
    for image_id in image_ids:
        boxes = [[10.0 * (n % 30), 10.0 * (n // 30), 8.0, 8.0] for n in range(objects)]
        annotations = [
            {"id": next(numbers), "bbox": box, "bbox_mode": 1, "category_id": 0, "iscrowd": 0,
             "area": 64.0}
            for box in boxes
        ]  # fmt: skip
        size = {"height": 300, "width": 300}
        images.append({"image_id": image_id, "file_name": "", **size, "annotations": annotations})
        corners = np.array(boxes, dtype=np.float32)
        corners[:, 2:] += corners[:, :2]
        scores = np.linspace(0.9, 0.5, objects, dtype=np.float32)
        classes = np.zeros(objects, dtype=np.int32)
        found.append(ImageDetections(image_id, 300, 300, corners, scores, classes, None))
    return Truth(images, ("thing",)), collect(found)


@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize(
    ("image_ids", "annotation_ids"),
    [([1], [0]), ([0], [0]), ([-5, -4, 3], [-100, 0, 7]), ([2**53, 1], [2**53, 2**53 - 1])],
)
def test_a_perfect_detector_scores_100_whatever_the_ids(
    evaluator: str, image_ids: list[int], annotation_ids: list[int]
) -> None:
    truth, detections = grid(image_ids, annotation_ids)
    found = score(truth, detections, evaluator)
    for name in ("APbox", "AR1box"):
        assert found.metrics[name] == pytest.approx(100)


@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
def test_more_than_100_objects_count_where_a_detector_may_find_them(evaluator: str) -> None:
    truth, detections = grid([1, 2], list(range(1, 401)), objects=200)
    assert score(truth, detections, evaluator).metrics["AR100box"] == 50
    found = score(truth, detections, evaluator, most=300).metrics
    for name in ("APbox", "APsbox", "ARsbox"):
        assert found[name] == pytest.approx(100)
    few = [found[name] for name in ("AR1box", "AR10box", "AR100box")]
    assert few == pytest.approx([0.5, 5, 50])
    matches = match(truth, detections, 300)
    (numbers,) = resample(matches, "box", np.ones((1, 2), dtype=np.int32))
    ours = dict(zip(NAMES, numbers[:, 0].tolist(), strict=True))
    assert {f"{name}box": value for name, value in ours.items() if value == value} == {
        name: pytest.approx(value, abs=1e-12) for name, value in found.items() if value is not None
    }


def test_matches_of_more_detections_are_read_again(tmp_path: Path) -> None:
    matches = match(*grid([1], list(range(200)), objects=200), 300)
    write_matches(tmp_path / "matches.npz", matches)
    read = read_matches(tmp_path / "matches.npz")
    assert (read.most, len(read.scores)) == (300, 200)
