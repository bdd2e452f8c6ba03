"""What reads pooled boxes: k-NN, a linear classifier, and a ridge regression of boxes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.labelled.knn import Bank, classify
from benchmarks.labelled.logistic import Standard, fit, fit_path
from benchmarks.labelled.scores import ClassifierOutput, judge
from benchmarks.tasks.regions.boxes import Floats, Ints, moved, offsets, paired_iou
from benchmarks.tasks.regions.extract import PooledBoxes
from benchmarks.tasks.regions.recipes import RegionHeadsConfig
from benchmarks.tasks.regions.ridge import BoxRidge

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ClassifiedBoxes:
    """How the validation boxes were classified.

    Attributes:
        knn: Of objects.
        linear: Of objects, by a classifier of the data's classes.
        background: Of objects, then background boxes, by a classifier with one more class.
        l2: Penalty of both linear classifiers.
        held_out_top1: Top1 on held-out training images by penalty, in percent.
    """

    knn: ClassifierOutput
    linear: ClassifierOutput
    background: ClassifierOutput
    l2: float
    held_out_top1: Mapping[float, float]


@dataclass(frozen=True)
class LocalizedBoxes:
    """How displaced boxes found the way back.

    Attributes:
        iou: (K,) of each predicted box with its object.
        before: (K,) of each displaced box with its object.
        l2: The penalty.
        held_out_iou: Mean IoU on held-out training images by penalty.
    """

    iou: Floats
    before: Floats
    l2: float
    held_out_iou: Mapping[float, float]


def held_out(num_images: int, share: float, seed: int) -> Bools:
    """Return which images choose the penalties, (num_images,); at least one and not all.

    Args:
        num_images: At least two for a real choice; with one, the same image fits and chooses.
        share: Of the images.
        seed: Of the run.
    """
    count = min(max(1, round(share * num_images)), max(1, num_images - 1))
    chosen = np.zeros(num_images, dtype=bool)
    chosen[np.random.default_rng([seed, num_images]).permutation(num_images)[:count]] = True
    return chosen


def classify_boxes(
    train: PooledBoxes,
    val: PooledBoxes,
    num_classes: int,
    config: RegionHeadsConfig,
    context: tuple[int, torch.device],
) -> ClassifiedBoxes:
    """Return how validation boxes are classified by readers of the training boxes.

    Args:
        train: Pooled training boxes.
        val: Pooled validation boxes.
        num_classes: Of the data.
        config: Of the readers.
        context: Seed of the held-out images, and device.
    """
    seed, device = context
    rows = torch.from_numpy(train.objects).to(device).double()
    labels = torch.from_numpy(train.labels).to(device)
    test = torch.from_numpy(val.objects).to(device).double()
    truth = torch.from_numpy(val.labels).to(device)
    l2, tried = _choose_l2(rows, labels, num_classes, train.images, config, seed)
    standard = Standard.of(rows)
    linear = fit(standard(rows), labels, num_classes, l2, config.max_iterations)
    every = torch.cat([rows, torch.from_numpy(train.background).to(device).double()])
    every_label = torch.cat([labels, labels.new_full((len(train.background),), num_classes)])
    wide = Standard.of(every)
    wider = fit(wide(every), every_label, num_classes + 1, l2, config.max_iterations)
    tested = torch.cat([test, torch.from_numpy(val.background).to(device).double()])
    tested_truth = torch.cat([truth, truth.new_full((len(val.background),), num_classes)])
    k = min(config.k, len(train.objects))
    return ClassifiedBoxes(
        knn=classify(
            _bank(train.objects, train.labels),
            _bank(val.objects, val.labels),
            [k],
            config.temperature,
            device,
        )[k],
        linear=judge(linear(standard(test)), truth),
        background=judge(wider(wide(tested)), tested_truth),
        l2=l2,
        held_out_top1=tried,
    )


def localize_boxes(
    train: PooledBoxes,
    val: PooledBoxes,
    config: RegionHeadsConfig,
    context: tuple[int, torch.device],
) -> LocalizedBoxes:
    """Return where a ridge regression from pooled cells to offsets puts displaced boxes.

    Args:
        train: Pooled training boxes.
        val: Pooled validation boxes.
        config: Of the readers.
        context: Seed of the held-out images, and device.
    """
    seed, device = context
    images = train.images[train.copy_objects]
    held = held_out(int(train.images.max()) + 1, config.held_out, seed)[images]
    if held.all() or not held.any():
        held = np.arange(len(images)) % 2 == 0
    objects = train.boxes[train.copy_objects]
    targets = offsets(train.copy_boxes, objects)
    ridge = BoxRidge(train.copies, device, config.box_clip)
    kept = ridge.fit(np.flatnonzero(~held), targets)
    places = np.flatnonzero(held)
    tried = {}
    for l2 in sorted(config.box_l2s, reverse=True):
        predicted = ridge.predict(ridge.solve(kept, l2), train.copies, places)
        tried[l2] = float(
            paired_iou(moved(train.copy_boxes[places], predicted), objects[places]).mean()
        )
    best = max(tried, key=lambda l2: tried[l2])
    del kept  # as large as the next one
    solved = ridge.solve(ridge.fit(np.arange(len(images)), targets), best)
    predicted = ridge.predict(solved, val.copies, np.arange(len(val.copies)))
    truth = val.boxes[val.copy_objects]
    return LocalizedBoxes(
        iou=paired_iou(moved(val.copy_boxes, predicted), truth),
        before=paired_iou(val.copy_boxes, truth),
        l2=best,
        held_out_iou=tried,
    )


def _choose_l2(
    rows: Tensor,
    labels: Tensor,
    num_classes: int,
    images: Ints,
    config: RegionHeadsConfig,
    seed: int,
) -> tuple[float, dict[float, float]]:
    """Return the penalty with the best top1 on held-out (N, D) rows (of equals the strongest)."""
    held = torch.from_numpy(held_out(int(images.max()) + 1, config.held_out, seed)[images])
    held = held.to(rows.device)
    if held.all() or not held.any():
        return max(config.l2s), {}
    standard = Standard.of(rows[~held])
    path = fit_path(
        standard(rows[~held]), labels[~held], num_classes, config.l2s, config.max_iterations
    )
    test = standard(rows[held])
    tried = {
        l2: 100.0 * float((classifier(test).argmax(dim=1) == labels[held]).double().mean())
        for l2, classifier in path.items()
    }
    return max(tried, key=lambda l2: tried[l2]), tried


def _bank(rows: npt.NDArray[np.float32], labels: Ints) -> Bank:
    """Return a bank of (N, D) rows with (N,) labels."""
    table = torch.from_numpy(rows)
    return Bank(lambda start, end: table[start:end], torch.from_numpy(labels))
