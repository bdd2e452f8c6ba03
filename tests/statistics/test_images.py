"""Per-image results of every task against the task's own scores on images that really repeat."""

import numpy as np
import pytest
import torch

from benchmarks.by_image.resamples import (
    NUM_RESAMPLES,
    compute_resamples,
    read_resamples,
    write_resamples,
)
from benchmarks.by_image.runs import keep_resamples
from benchmarks.labelled.scores import ClassifierOutput, score, write_predictions
from benchmarks.labelled.sets.real_labels import judge_real, real_top1
from benchmarks.suites import get_task, image_file_of
from benchmarks.tasks.correspondence.by_image import CORRESPONDENCE
from detection.scoring.matches import MATCHES_FILE, write_matches
from detection.scoring.matching import match
from tests.parity.detection.test_cocoeval import jitter, make_truth

NUM_CLASSES = 6
VARIANTS = {
    "knn": ["cls/k20", "mean/k20"],
    "linear": ["cls/lr0.1"],
    "lowshot": ["lowshot1", "lowshot10"],
    "finetune": ["finetune"],
    "partial": ["partial1", "partial_half", "partial0", "partial4", "partial_all"],
}
# Everything of these tasks is a mean over images.
WHOLE = ("knn", "linear", "lowshot", "finetune", "partial")


def classified(path, task, rng, count=40):
    labels = torch.from_numpy(rng.integers(0, NUM_CLASSES - 1, count))
    verdicts = {
        name: ClassifierOutput(
            torch.from_numpy(rng.integers(0, NUM_CLASSES, count)),
            torch.from_numpy(rng.integers(0, NUM_CLASSES, count)),
        )
        for name in VARIANTS[task]
    }
    answers = [
        frozenset(rng.integers(0, NUM_CLASSES, n).tolist()) for n in rng.integers(0, 3, count)
    ]
    headline = VARIANTS[task][0]
    real = judge_real(verdicts[headline].predicted.tolist(), answers)
    write_predictions(path, np.arange(count), labels, verdicts, headline, real)
    return labels, verdicts, answers, headline


@pytest.mark.parametrize("task", WHOLE)
def test_every_metric_of_a_classifier_is_that_of_images_that_repeat(task, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "predictions.npz"
    labels, verdicts, answers, headline = classified(path, task, rng)
    names = tuple(get_task(task).metrics)
    results = image_file_of(task).read(path, names)
    weights = np.stack([np.ones(40), rng.multinomial(40, np.full(40, 1 / 40))]).astype(np.int32)
    found = results.metrics(weights)
    assert set(found) == set(names)
    for row, own in enumerate(weights):
        repeat = torch.from_numpy(np.repeat(np.arange(40), own))
        for name, values in found.items():
            measure = next(m for m in ("top1", "top5", "mean_class", "real") if name.endswith(m))
            prefix = name.removesuffix(f"_{measure}")
            verdict = verdicts[headline if prefix == task else prefix]
            again = ClassifierOutput(verdict.predicted[repeat], verdict.rank[repeat])
            if measure == "real":
                theirs = [answers[i] for i in repeat.tolist()]
                expected = real_top1(judge_real(again.predicted.tolist(), theirs))
            else:
                expected = getattr(score(again, labels[repeat], NUM_CLASSES), measure)
            assert values[row] == pytest.approx(expected), name


def test_metrics_of_a_detector_are_those_of_the_task(tmp_path):
    rng = np.random.default_rng(1)
    truth = make_truth(rng)
    write_matches(tmp_path / MATCHES_FILE, match(truth, jitter(rng, truth, 3, 2)))
    results = image_file_of("coco").read(tmp_path / MATCHES_FILE, ())
    once = np.ones((1, len(truth.images)), dtype=np.int32)
    assert set(results.metrics(once)) == set(get_task("coco").metrics)


def test_correspondence_is_a_mean(tmp_path):
    rng = np.random.default_rng(2)
    columns = {"indices": np.arange(9), "accuracy": rng.random(9), "pixels": rng.random(9)}
    kept = image_file_of("correspondence")
    CORRESPONDENCE.write(tmp_path / kept.name, columns)
    results = kept.read(tmp_path / kept.name, ())
    own = np.array([[0, 2, 1, 1, 0, 0, 3, 1, 1]], dtype=np.int32)
    found = results.metrics(own)
    assert set(found) == set(get_task("correspondence").metrics)
    repeated = np.repeat(columns["accuracy"], own[0]).mean()
    assert found["correspondence_accuracy"][0] == pytest.approx(100 * repeated)


def test_resamples_survive_their_file_and_other_files_are_nothing(tmp_path):
    classified(tmp_path / "predictions.npz", "knn", np.random.default_rng(3))
    kept = image_file_of("knn")
    assert kept.name == "predictions.npz"
    results = kept.read(tmp_path / kept.name, ("knn_top1",))
    made = compute_resamples(results)
    write_resamples(tmp_path / "r.npz", made)
    again = read_resamples(tmp_path / "r.npz")
    assert again.plain == made.plain
    assert len(again.values["knn_top1"]) == NUM_RESAMPLES
    np.testing.assert_array_equal(again.values["knn_top1"], made.values["knn_top1"])
    assert keep_resamples(tmp_path, [tmp_path / "other.npz"], kept, ()) == ()
    assert keep_resamples(tmp_path, [tmp_path / kept.name], None, ()) == ()
