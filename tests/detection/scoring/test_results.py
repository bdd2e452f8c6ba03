"""Results files of other programs: the same numbers as pycocotools, and what is refused."""

import copy
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as rle_tools
import pytest

from backbones.base.errors import PreflightError
from benchmarks.by_image.detected import read_detected
from benchmarks.by_image.resamples import compute_resamples
from detection.scoring.cocoeval import score
from detection.scoring.detections import Detections, read_detections, write_detections
from detection.scoring.matches import write_matches
from detection.scoring.matching import match
from detection.scoring.results.scoring import open_results, score_results
from detection.scoring.results.truth import ScoringTruth
from detection.scoring.results.writing import write_results
from tests.detection.scoring.made import CATEGORIES, HEIGHT, WIDTH, by_pycocotools, corners

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_numbers_are_those_ofby_pycocotools(
    engine: str, content: Any, scoring: ScoringTruth, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content[1]), "utf-8")
    opened = open_results(path, scoring)
    found = score_results(opened, scoring, tmp_path, engine)
    boxes = [{k: v for k, v in one.items() if k != "segmentation"} for one in content[1]]
    # As detectron2 evaluates masks: with a bbox beside it, pycocotools takes the area of that.
    masks = [{k: v for k, v in one.items() if k != "bbox"} for one in content[1]]
    for kind, results in (("box", boxes), ("mask", masks)):
        wanted = by_pycocotools(
            tmp_path / "truth.json", results, {"box": "bbox", "mask": "segm"}[kind]
        )
        for name, value in zip(NAMES, wanted, strict=True):
            assert found.metrics[name + kind] == pytest.approx(value, abs=1e-9), name + kind
    assert any("beyond the best 100" in remark for remark in opened.remarks)
    # What intervals are drawn from comes to the same numbers.
    plain = compute_resamples(read_detected(found.files[1], ())).plain
    for name, value in plain.items():
        assert value == pytest.approx(found.metrics[name], abs=1e-9), name


def _as_detector(scoring: ScoringTruth, results: list[dict[str, Any]], folder: Path) -> Detections:
    """Return detections as detectors trained here have them: corners and scores in float32."""
    path = folder / "as-detector.json"
    path.write_text(json.dumps(results), "utf-8")
    found = open_results(path, scoring).detections
    return replace(found, scores=found.scores.astype(np.float32), xywh=None)


def test_own_detections_written_and_scored_give_the_same_bits(
    content: Any, scoring: ScoringTruth, tmp_path: Path
) -> None:
    own = _as_detector(scoring, content[1], tmp_path)
    before = score(scoring.truth, own)
    write_matches(tmp_path / "own.npz", match(scoring.truth, own))
    write_results(tmp_path / "written.json", own, scoring.category_ids)
    opened = open_results(tmp_path / "written.json", scoring)
    after = score_results(opened, scoring, tmp_path, "hotcoco")
    assert after.metrics == before.metrics
    assert after.per_class == before.per_class
    drawn = compute_resamples(read_detected(tmp_path / "own.npz", ()))
    again = compute_resamples(read_detected(after.files[1], ()))
    assert drawn.plain == again.plain
    for name, values in drawn.values.items():
        assert np.array_equal(values, again.values[name], equal_nan=True), name


def test_detections_of_doubles_survive_their_file(
    content: Any, scoring: ScoringTruth, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content[1]), "utf-8")
    found = open_results(path, scoring).detections
    write_detections(tmp_path / "detections.npz", found)
    again = read_detections(tmp_path / "detections.npz")
    assert again.xywh is not None
    assert np.array_equal(again.xywh, found.xywh)
    assert again.scores.dtype == np.float64
    assert np.array_equal(again.scores, found.scores)
    assert again.masks == found.masks


def _changed(results: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    """Return results of which each entry's values went through a function."""
    return [{**one, **{name: change(one) for name, change in changes.items()}} for one in results]


REFUSED = {
    "unknown image": (lambda r: [*r, {**r[0], "image_id": 999}], "1 of .* image_id .*999"),
    "places for ids": (
        lambda r: _changed(r, image_id=lambda one: 1),
        "place of an image in the list",
    ),
    "indices for classes": (
        lambda r: _changed(r, category_id=lambda one: sorted(CATEGORIES).index(one["category_id"])),
        "class indices from 0",
    ),
    "numbers for classes": (
        lambda r: _changed(
            r, category_id=lambda one: sorted(CATEGORIES).index(one["category_id"]) + 1
        ),
        "without the gaps",
    ),
    "corners": (lambda r: _changed(r, bbox=corners), "xyxy"),
    "centres": (
        lambda r: _changed(
            r,
            bbox=lambda o: [
                o["bbox"][0] + o["bbox"][2] / 2,
                o["bbox"][1] + o["bbox"][3] / 2,
                *o["bbox"][2:],
            ],
        ),
        "centre, width and height",
    ),
    "shares": (
        lambda r: _changed(r, bbox=lambda o: [v / 400 for v in o["bbox"]]),
        "normalised to 0..1",
    ),
    "negative": (
        lambda r: _changed(r, bbox=lambda o: [*o["bbox"][:2], -3.0, 4.0]),
        "negative width or height",
    ),
    "turned masks": (
        lambda r: _changed(
            r,
            segmentation=lambda o: {
                "size": [WIDTH, HEIGHT],
                "counts": o["segmentation"]["counts"],
            },
        ),
        "height and width are exchanged",
    ),
    "some without masks": (
        lambda r: [*r[1:], {k: v for k, v in r[0].items() if k != "segmentation"}],
        "1 of .* have no segmentation; --boxes-only",
    ),
    "no box at all": (
        lambda r: [
            {k: v for k, v in o.items() if k in ("image_id", "category_id", "score")} for o in r
        ],
        "neither bbox nor segmentation",
    ),
    "written twice": (lambda r: [*r, *r], "written or joined twice"),
    "broken runs": (
        lambda r: [{**r[0], "segmentation": {"size": [HEIGHT, WIDTH], "counts": "abc"}}, *r[1:]],
        "1 of .* entries are not detections",
    ),
    "text ids": (
        lambda r: _changed(r, image_id=lambda o: str(o["image_id"])),
        "expected int, got str",
    ),
    "no score": (
        lambda r: [{k: v for k, v in {**o, "id": 1}.items() if k != "score"} for o in r],
        "annotation of the ground truth",
    ),
    "three numbers": (lambda r: _changed(r, bbox=lambda o: o["bbox"][:3]), "bbox: expected array"),
    "not finite": (lambda r: _changed(r, score=lambda o: float("nan")), "NaN or infinity"),
    "empty": (lambda r: [], "empty list"),
    "ground truth": (lambda r: {"images": [], "annotations": []}, "holds ground truth"),
    "object": (lambda r: {"results": r}, "holds an object"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_belong_is_refused(
    name: str, content: Any, scoring: ScoringTruth, tmp_path: Path
) -> None:
    change, words = REFUSED[name]
    # Unlike the many copies of one object, these belong to objects of their own.
    own = [one for one in content[1] if one["category_id"] != 3]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(change(copy.deepcopy(own))), "utf-8")
    with pytest.raises(PreflightError, match=words) as caught:
        open_results(path, scoring)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[: len(text) // 2], "cut off in the middle"),
        (lambda text: b"", "is empty"),
        (lambda text: gzip.compress(text), "gzip"),
        (lambda text: b"PK\x03\x04" + text, "ZIP or PyTorch"),
        (lambda text: b"hello", "is not JSON"),
        (lambda text: b"12", "a single value"),
    ],
)
def test_damaged_files_are_named(
    damage: Any, words: str, content: Any, scoring: ScoringTruth, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(damage(json.dumps(content[1]).encode()))
    with pytest.raises(PreflightError, match=words):
        open_results(path, scoring)
    with pytest.raises(PreflightError, match="cannot be read"):
        open_results(tmp_path / "absent.json", scoring)


def test_what_detectors_may_do_is_named_and_scored(
    content: Any, scoring: ScoringTruth, tmp_path: Path
) -> None:
    results = copy.deepcopy(content[1])
    results[0]["bbox"] = [700.0, 500.0, 9.0, 9.0]
    results[1]["bbox"] = [300.0, 10.0, 60.0, 9.0]
    results[2]["bbox"] = [190.0, 10.0, 0.0, 9.0]
    results[3]["score"] = 1.5
    results.append(copy.deepcopy(results[5]))
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results), "utf-8")
    remarks = " ".join(open_results(path, scoring).remarks)
    for words in (
        "1 of 3.. detections have a box outside",
        "1 of 3.. detections have a box that ends beyond",
        "1 of 3.. detections have a box without width",
        "1 of 3.. detections have a score outside 0 to 1",
        "1 of 3.. detections repeat another one",
    ):
        assert re.search(words, remarks), (words, remarks)


def test_few_images_are_named(content: Any, scoring: ScoringTruth, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([o for o in content[1] if o["image_id"] < 40]), "utf-8")
    remarks = open_results(path, scoring).remarks
    assert any("images have no detection" in remark for remark in remarks)


def test_masks_alone_have_the_boxes_of_the_masks(
    content: Any, scoring: ScoringTruth, tmp_path: Path
) -> None:
    masks = [{k: v for k, v in one.items() if k != "bbox"} for one in content[1]]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(masks), "utf-8")
    found = score_results(open_results(path, scoring), scoring, tmp_path, "hotcoco")
    wanted = by_pycocotools(tmp_path / "truth.json", masks, "bbox")
    assert found.metrics["APbox"] == pytest.approx(wanted[0], abs=1e-9)


def test_polygons_are_masks_too(content: Any, scoring: ScoringTruth, tmp_path: Path) -> None:
    drawn = [
        {**one, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}
        for one in content[1]
        for x, y, w, h in [one["bbox"]]
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(drawn), "utf-8")
    found = score_results(open_results(path, scoring), scoring, tmp_path, "hotcoco")
    rles = _changed(
        drawn,
        segmentation=lambda o: (
            lambda rle: {"size": rle["size"], "counts": rle["counts"].decode()}
        )(rle_tools.merge(rle_tools.frPyObjects(o["segmentation"], HEIGHT, WIDTH))),
    )
    masks = [{k: v for k, v in one.items() if k != "bbox"} for one in rles]
    wanted = by_pycocotools(tmp_path / "truth.json", masks, "segm")
    assert found.metrics["APmask"] == pytest.approx(wanted[0], abs=1e-9)


def test_boxes_only_leaves_masks_out(content: Any, scoring: ScoringTruth, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content[1]), "utf-8")
    opened = open_results(path, scoring, boxes_only=True)
    assert opened.detections.masks is None
    assert "APmask" not in score_results(opened, scoring, tmp_path, "hotcoco").metrics
