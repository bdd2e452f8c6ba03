"""Numbers of resampled images against pycocotools on data in which images really occur twice."""

from typing import Any

import numpy as np
import pytest

from benchmarks.by_image.images import mean_of_classes
from detection.data.dataset import Truth
from detection.scoring import resampling
from detection.scoring.cocoeval import get_engine, score, summarize
from detection.scoring.detections import Detections, ImageDetections, collect
from detection.scoring.matches import read_matches, write_matches
from detection.scoring.matching import match
from detection.scoring.resampling import NAMES, resample
from tests.parity.detection.test_cocoeval import jitter, make_truth

KINDS = {"box": "bbox", "mask": "segm"}
CASES = [(3, 7), (3, 1), (3, 0), (40, 2), (0, 1)]
IDS = ["plain", "ties", "two scores", "over 100 an image", "none"]


def repeated(truth: Truth, detections: Detections, weights: np.ndarray) -> tuple[Truth, Detections]:
    """Return the data set with every image as often as its weight says, ids renumbered."""
    images: list[dict[str, Any]] = []
    found = []
    starts = np.concatenate([[0], detections.ends[:-1]])
    for number, image in enumerate(truth.images):
        rows = slice(int(starts[number]), int(detections.ends[number]))
        for _ in range(weights[number]):
            image_id = len(images) + 1
            first = sum(len(i["annotations"]) for i in images) + 1
            copies = [{**a, "id": first + n} for n, a in enumerate(image["annotations"])]
            images.append({**image, "image_id": image_id, "annotations": copies})
            found.append(
                ImageDetections(
                    image_id,
                    *detections.sizes[number].tolist(),
                    detections.boxes[rows],
                    detections.scores[rows],
                    detections.classes[rows],
                    detections.masks[rows] if detections.masks else None,
                )
            )
    return Truth(images, truth.class_names), collect(found)


def expected(truth: Truth, detections: Detections, kind: Any, engine: Any) -> np.ndarray:
    summary = summarize(get_engine(engine)(truth, detections, kind))
    return np.array([np.nan if summary[name] is None else summary[name] for name in NAMES])


@pytest.mark.parametrize(("copies", "digits"), CASES, ids=IDS)
@pytest.mark.parametrize("seed", range(2))
def test_weights_give_what_repeated_images_give(copies: int, digits: int, seed: int) -> None:
    """By hotcoco, which gives pycocotools' bits (tests/parity), and once by pycocotools itself."""
    rng = np.random.default_rng(seed)
    truth = make_truth(rng)
    detections = jitter(rng, truth, copies, digits)
    matches = match(truth, detections)
    count = len(truth.images)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=2)
    weights = np.concatenate([drawn, np.ones((1, count))]).astype(np.int32)
    ours = {kind: mean_of_classes(resample(matches, kind, weights)) for kind in KINDS}
    for row, own in enumerate(weights):
        data = repeated(truth, detections, own)
        for kind, theirs in KINDS.items():
            want = expected(*data, theirs, "hotcoco" if row else "pycocotools")
            np.testing.assert_allclose(ours[kind][row], want, rtol=0, atol=1e-9)


def test_company_of_equal_scores_is_taken_copy_by_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights alone would be wrong there, and the data of the test above show it."""
    rng = np.random.default_rng(0)
    truth = make_truth(rng)
    detections = jitter(rng, truth, 3, 0)
    matches = match(truth, detections)
    weights = np.full((1, len(truth.images)), 3, dtype=np.int32)
    right = mean_of_classes(resample(matches, "box", weights))[0]
    want = expected(*repeated(truth, detections, weights[0]), "bbox", "pycocotools")
    np.testing.assert_allclose(right, want, rtol=0, atol=1e-9)
    monkeypatch.setattr(resampling, "_in_company", lambda i, s, r: np.zeros(len(i), bool))
    wrong = mean_of_classes(resample(matches, "box", weights))[0]
    assert np.nanmax(np.abs(right - wrong)) > 1e-3


def test_classes_are_those_of_the_record() -> None:
    rng = np.random.default_rng(3)
    truth = make_truth(rng)
    detections = jitter(rng, truth, 3, 2)
    matches = match(truth, detections)
    scores = score(truth, detections)
    once = np.ones((1, len(truth.images)), dtype=np.int32)
    for kind in KINDS:
        by_class = resample(matches, kind, once, threads=2)[0, 0]
        known = [scores.per_class[name][f"AP{kind}"] for name in truth.class_names]
        want = [np.nan if value is None else value for value in known]
        np.testing.assert_allclose(by_class, want, rtol=0, atol=1e-9)
        assert np.isnan(by_class[-1])


def test_parts_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    truth = make_truth(rng)
    matches = match(truth, jitter(rng, truth, 3, 1))
    weights = rng.integers(0, 4, (9, len(truth.images))).astype(np.int32)
    whole = resample(matches, "box", weights)
    monkeypatch.setattr(resampling, "_CHOICES_AT_ONCE", 4)
    parts = resample(matches, "box", weights, threads=3)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-9)


def test_matches_survive_their_file(tmp_path: Any) -> None:
    rng = np.random.default_rng(5)
    truth = make_truth(rng)
    matches = match(truth, jitter(rng, truth, 3, 1))
    write_matches(tmp_path / "a.npz", matches)
    write_matches(tmp_path / "b.npz", matches)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    kept = read_matches(tmp_path / "a.npz")
    assert kept.class_names == matches.class_names
    for name in ("image_ids", "images", "classes", "scores", "object_images", "object_sizes"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(matches, name))
    for kind in KINDS:
        np.testing.assert_array_equal(kept.kinds[kind].matched, matches.kinds[kind].matched)
        np.testing.assert_array_equal(kept.kinds[kind].ignored, matches.kinds[kind].ignored)
