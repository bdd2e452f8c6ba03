"""The work of the task knn: features, votes, scores."""

from collections.abc import Sequence

import numpy as np

from backbones.base.errors import PreflightError
from backbones.base.monitor import Monitor, Progress
from benchmarks.by_image.classified import PREDICTIONS_FILE
from benchmarks.labelled.features.frozen import FrozenEvaluation, ReadableSplit
from benchmarks.labelled.knn import Bank, classify
from benchmarks.labelled.scores import ClassifierOutput, score, write_predictions
from benchmarks.labelled.sets.real_labels import real_top1
from benchmarks.task import TaskInputs, TaskResult
from benchmarks.tasks.knn.recipes import KnnConfig


def run_knn(inputs: TaskInputs, monitor: Monitor) -> TaskResult:
    """Let the training images vote on the test images, with every kind of features and every k.

    Raises:
        UserError: The backbone does not have the headline's features.
        PreflightError: Weights, images or disk cannot serve, or there are fewer training images
            than neighbours.
        StoppedError: The monitor asked to stop; finished features are kept.
    """
    config: KnnConfig = inputs.config
    vote = config.vote
    subject = FrozenEvaluation(inputs, config.data, config.extraction, monitor)
    subject.check_kind(vote.features, "vote.features")
    ks = [k for k in vote.ks if k <= len(subject.train)]
    if vote.k not in ks:
        raise PreflightError(
            f"{vote.k} neighbours cannot be had from {len(subject.train)} training images; use "
            "more images, or fewer neighbours with --set vote.k and vote.ks."
        )
    verdicts = _verdicts(subject, config, ks, monitor)
    scores = {
        name: score(v, subject.val.labels, subject.num_classes) for name, v in verdicts.items()
    }
    headline = _variant(vote.features, vote.k)
    best = scores[headline]
    real = subject.judge_real(verdicts[headline])
    path = inputs.out_dir / PREDICTIONS_FILE
    write_predictions(path, subject.val.indices, subject.val.labels, verdicts, headline, real)
    return TaskResult(
        metrics={
            "knn_top1": best.top1,
            "knn_top5": best.top5,
            "knn_mean_class": best.mean_class,
            "knn_real": real_top1(real),
        },
        per_class=subject.per_class(best),
        cost=subject.cost(),
        rates=subject.rates(monitor),
        coverage=subject.frozen.coverage.sentence(),
        details={
            **subject.details(),
            "headline": headline,
            "variants": {n: {"top1": s.top1, "top5": s.top5} for n, s in scores.items()},
        },
        files=(path,),
        warnings=(*_left_out(vote.ks, len(subject.train)), *subject.warnings()),
    )


def _left_out(ks: Sequence[int], num_train: int) -> list[str]:
    """Return a sentence where there are fewer training images than some k."""
    names = ", ".join(str(k) for k in ks if k > num_train)
    return [f"k = {names} left out: {num_train} training images"] if names else []


def _verdicts(
    subject: FrozenEvaluation, config: KnnConfig, ks: Sequence[int], monitor: Monitor
) -> dict[str, ClassifierOutput]:
    """Return the verdicts by variant: kind of features and number of neighbours."""
    found: dict[str, ClassifierOutput] = {}
    kinds = list(subject.frozen.layout.kinds)
    for number, kind in enumerate(kinds):
        monitor.progress(Progress("vote", number, len(kinds)))
        train, test = _bank(subject.train, kind), _bank(subject.val, kind)
        by_k = classify(train, test, ks, config.vote.temperature, subject.device)
        found |= {_variant(kind, k): verdict for k, verdict in by_k.items()}
    return found


def _variant(kind: str, k: int) -> str:
    return f"{kind}/k{k}"


def _bank(split: ReadableSplit, kind: str) -> Bank:
    return Bank(lambda start, end: split.table.rows(kind, np.arange(start, end)), split.labels)
