"""The work of the task lowshot: features, a few labels, a regression, scores."""

from pathlib import Path
from typing import Any

import torch

from backbones.base.monitor import Monitor, Progress
from benchmarks.by_image.classified import PREDICTIONS_FILE
from benchmarks.labelled.features.frozen import FrozenEvaluation
from benchmarks.labelled.logistic import Standard, fit
from benchmarks.labelled.scores import (
    ClassificationScores,
    ClassifierOutput,
    judge,
    score,
    write_predictions,
)
from benchmarks.labelled.sets.subsets import Places, list_of, read_list, take_per_class
from benchmarks.task import TaskInputs, TaskResult
from benchmarks.tasks.lowshot.penalty import choose
from benchmarks.tasks.lowshot.recipes import SHARES, LowshotConfig, RegressionConfig


def run_lowshot(inputs: TaskInputs, monitor: Monitor) -> TaskResult:
    """Fit a regression to each share of the labels and test it.

    Raises:
        UserError: The backbone does not have the recipe's features.
        PreflightError: Weights, images, lists or disk cannot serve.
        StoppedError: The monitor asked to stop; finished features are kept.
    """
    config: LowshotConfig = inputs.config
    subject = FrozenEvaluation(inputs, config.data, config.extraction, monitor)
    subject.check_kind(config.regression.features, "regression.features")
    verdicts: dict[str, ClassifierOutput] = {}
    scores: dict[str, ClassificationScores] = {}
    chosen: dict[str, Any] = {}
    for number, (name, share) in enumerate(SHARES.items()):
        monitor.progress(Progress("regression", number, len(SHARES)))
        listed = list_of(subject.images.root, share)
        own = listed.is_file() and inputs.limit_images is None
        places = (
            _listed(listed, subject)
            if own
            else take_per_class(subject.train.labels.numpy(), share, inputs.seed)
        )
        verdicts[name], facts = _classify(subject, config.regression, places, inputs.seed)
        scores[name] = score(verdicts[name], subject.val.labels, subject.num_classes)
        chosen[name] = {**facts, "labels": listed.name if own else f"seed {inputs.seed}"}
    path = inputs.out_dir / PREDICTIONS_FILE
    write_predictions(path, subject.val.indices, subject.val.labels, verdicts, "lowshot1")
    metrics: dict[str, float | None] = {}
    for name, found in scores.items():
        metrics |= {
            f"{name}_top1": found.top1,
            f"{name}_top5": found.top5,
            f"{name}_mean_class": found.mean_class,
        }
    return TaskResult(
        metrics=metrics,
        per_class=subject.per_class(scores["lowshot1"]),
        cost=subject.cost(),
        rates=subject.rates(monitor),
        coverage=subject.frozen.coverage.sentence(),
        details={**subject.details(), "chosen": chosen},
        files=(path,),
        warnings=tuple(subject.warnings()),
    )


def _classify(
    subject: FrozenEvaluation, config: RegressionConfig, places: Places, seed: int
) -> tuple[ClassifierOutput, dict[str, Any]]:
    """Return what a regression on the images at ``places`` says, and what decided it."""
    device = subject.device
    rows = subject.train.table.rows(config.features, places).to(device).double()
    labels = subject.train.labels[torch.from_numpy(places)].to(device)
    standard = Standard.of(rows)
    rows = standard(rows)
    choice = choose(rows, labels, subject.num_classes, config, seed)
    classifier = fit(rows, labels, subject.num_classes, choice.l2, config.max_iterations)
    test = standard(subject.val.table.all_rows(config.features).to(device).double())
    verdict = judge(classifier(test), subject.val.labels.to(device))
    facts = {
        "features": config.features,
        "num_labels": len(places),
        "num_classes_with_labels": int((torch.bincount(labels) > 0).sum()),
        "l2": choice.l2,
        "folds": choice.folds,
        "holdout_top1": {f"{l2:g}": value for l2, value in choice.top1.items()},
    }
    return verdict, facts


def _listed(path: Path, subject: FrozenEvaluation) -> Places:
    """Return the places of the readable training images that a list names.

    Raises:
        PreflightError: It names images that do not exist.
    """
    images = subject.images.train
    names = [images.name_of(int(index)) for index in subject.train.indices]
    return read_list(path, names, complete=len(names) == len(images))
