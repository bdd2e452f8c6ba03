"""The work of the task centroid: features, class means, the nearest one."""

import numpy as np
import torch
from torch.nn.functional import normalize

from backbones.base.monitor import Monitor
from benchmarks.by_image.classified import PREDICTIONS_FILE
from benchmarks.labelled.features.frozen import FrozenEvaluation
from benchmarks.labelled.scores import judge, score, write_predictions
from benchmarks.task import TaskInputs, TaskResult


def run_centroid(inputs: TaskInputs, monitor: Monitor) -> TaskResult:
    """Classify each test image by the class whose mean feature is the most similar.

    Raises:
        UserError: The backbone does not have these features.
        PreflightError: Weights, images or disk cannot serve.
        StoppedError: The monitor asked to stop; finished features are kept.
    """
    config = inputs.config
    subject = FrozenEvaluation(inputs, config.data, config.extraction, monitor)
    subject.check_kind(config.features, "features")
    train, test = (
        normalize(split.table.rows(config.features, np.arange(len(split))))
        for split in (subject.train, subject.val)
    )  # (N, D) each
    means = torch.zeros(subject.num_classes, train.shape[1])
    means.index_add_(0, subject.train.labels, train)  # a mean's length does not change its angle
    labels = subject.val.labels
    verdict = judge(test @ normalize(means).T, labels)
    scores = score(verdict, labels, subject.num_classes)
    path = inputs.out_dir / PREDICTIONS_FILE
    write_predictions(path, subject.val.indices, labels, {"centroid": verdict}, "centroid")
    return TaskResult(
        metrics={
            "centroid_top1": scores.top1,
            "centroid_top5": scores.top5,
            "centroid_mean_class": scores.mean_class,
        },
        per_class=subject.per_class(scores),
        cost=subject.cost(),
        coverage=subject.frozen.coverage.sentence(),
        details=subject.details(),
        files=(path,),
        warnings=tuple(subject.warnings()),
    )
