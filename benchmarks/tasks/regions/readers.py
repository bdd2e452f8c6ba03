"""What reads pooled boxes: k-NN, a linear classifier, and a ridge regression of boxes."""

from collections.abc import Mapping, Sequence
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

Bools = npt.NDArray[np.bool_]
# Rows of displaced boxes that are turned into double precision at once.
_CHUNK = 4_096


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
    rows = _Rows(train.copies, device, config.box_clip)
    kept = rows.moments(np.flatnonzero(~held), targets)
    places = np.flatnonzero(held)
    tried = {}
    for l2 in sorted(config.box_l2s, reverse=True):
        predicted = rows.predict(kept.solve(l2), train.copies, places)
        tried[l2] = float(
            paired_iou(moved(train.copy_boxes[places], predicted), objects[places]).mean()
        )
    best = max(tried, key=lambda l2: tried[l2])
    solved = (kept + rows.moments(places, targets)).solve(best)
    predicted = rows.predict(solved, val.copies, np.arange(len(val.copies)))
    truth = val.boxes[val.copy_objects]
    return LocalizedBoxes(
        iou=paired_iou(moved(val.copy_boxes, predicted), truth),
        before=paired_iou(val.copy_boxes, truth),
        l2=best,
        held_out_iou=tried,
    )


class _Moments:
    """Second moments of rows and targets, from which a ridge regression follows for any penalty.

    Rows are shifted and scaled by constants that are near their mean and deviation, so that the
    sums keep their digits; the exact mean is taken out afterwards.

    Attributes:
        count: Number of rows.
        sums: (D + 4,) of the scaled rows and the targets.
        products: (D, D + 4) of the scaled rows with both.
    """

    def __init__(self, count: int, sums: Tensor, products: Tensor) -> None:
        self.count = count
        self.sums = sums
        self.products = products

    def __add__(self, other: "_Moments") -> "_Moments":
        return _Moments(
            self.count + other.count, self.sums + other.sums, self.products + other.products
        )

    def solve(self, l2: float) -> tuple[Tensor, Tensor]:
        """Return weights (D, 4) and offsets (4,) of the regression with penalty ``l2``.

        The penalty is relative to the mean square of a standardised feature, which is 1.
        """
        width = len(self.products)
        mean = self.sums / self.count
        covariance = self.products / self.count - torch.outer(mean[:width], mean)
        system = covariance[:, :width].clone()
        deviation = system.diagonal().clamp(min=0).sqrt()
        constant = deviation <= 1e-6 * deviation.mean()
        deviation = torch.where(constant, torch.ones_like(deviation), deviation)
        system /= torch.outer(deviation, deviation)
        system.diagonal().add_(l2)
        moment = covariance[:, width:] / deviation[:, None]
        factor = torch.linalg.cholesky(system)
        weights = torch.cholesky_solve(moment, factor) / deviation[:, None]
        return weights, mean[width:] - mean[:width] @ weights


class _Rows:
    """Cells of displaced boxes on a device, read in chunks."""

    def __init__(self, cells: npt.NDArray[np.float16], device: torch.device, clip: float) -> None:
        """Set up.

        Args:
            cells: (N, D) of the training copies.
            device: Where sums and products are formed.
            clip: Largest absolute value of a standardised feature.
        """
        self._cells = cells
        self._device = device
        self._clip = clip
        # A fixed choice of rows says where the values lie.
        some = self._read(
            cells, np.linspace(0, len(cells) - 1, min(len(cells), _CHUNK)).astype(np.int64)
        )
        self._shift = some.mean(dim=0)
        scale = some.std(dim=0, correction=0)
        self._scale = torch.where(scale > 0, scale, torch.ones_like(scale))

    def moments(self, places: Ints, targets: Floats) -> _Moments:
        """Return the moments of the rows at ``places`` with their targets, (N, 4)."""
        width = self._cells.shape[1]
        sums = torch.zeros(width + 4, dtype=torch.float64, device=self._device)
        products = torch.zeros(width, width + 4, dtype=torch.float64, device=self._device)
        for chunk in _chunks(places):
            rows = self._scaled(self._cells, chunk)
            both = torch.cat([rows, torch.from_numpy(targets[chunk]).to(self._device)], dim=1)
            sums += both.sum(dim=0)
            products.addmm_(rows.T, both)
        return _Moments(len(places), sums, products)

    def predict(
        self, solved: tuple[Tensor, Tensor], cells: npt.NDArray[np.float16], places: Ints
    ) -> Floats:
        """Return what a regression says of the rows of ``cells`` at ``places``, (n, 4)."""
        weights, offset = solved
        found = [self._scaled(cells, chunk) @ weights + offset for chunk in _chunks(places)]
        predicted: Floats = torch.cat(found).cpu().numpy()
        return predicted

    def _scaled(self, cells: npt.NDArray[np.float16], places: Ints) -> Tensor:
        """Return the rows of (N, D) cells at (n,) places, standardised and cut, (n, D) float64."""
        rows = (self._read(cells, places) - self._shift) / self._scale
        return rows.clamp_(-self._clip, self._clip)

    def _read(self, cells: npt.NDArray[np.float16], places: Ints) -> Tensor:
        """Return the rows of (N, D) cells at (n,) places on the device, (n, D) float64."""
        return torch.from_numpy(cells[places]).to(self._device).double()


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


def _chunks(places: Ints) -> Sequence[Ints]:
    return [places[start : start + _CHUNK] for start in range(0, len(places), _CHUNK)]
