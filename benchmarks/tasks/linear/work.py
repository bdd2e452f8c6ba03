"""The work of the task linear: features, heads, choice, scores."""

import os
from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from backbones.base.errors import PreflightError
from backbones.base.monitor import Monitor
from backbones.base.wording import first_of
from benchmarks.by_image.classified import PREDICTIONS_FILE
from benchmarks.labelled.features.frozen import FrozenEvaluation, ReadableSplit, identity_of
from benchmarks.labelled.features.views import RandomView
from benchmarks.labelled.scores import score, write_predictions
from benchmarks.labelled.sets.real_labels import real_top1
from benchmarks.labelled.sets.subsets import hold_out, others
from benchmarks.task import TaskInputs, TaskResult
from benchmarks.tasks.linear.heads import HeadKey
from benchmarks.tasks.linear.probe import Labelled, Probe, TrainedHeads, make_groups
from benchmarks.tasks.linear.recipes import LinearConfig
from pretrain.data.images import Subset

# Features that fit into this share of the free memory are read into it, others row by row.
_MEMORY_SHARE = 0.5


def run_linear(inputs: TaskInputs, monitor: Monitor) -> TaskResult:
    """Train a grid of heads on frozen features and test the best.

    Raises:
        UserError: The backbone has none of the recipe's features, or all heads diverged.
        PreflightError: Weights, images or disk cannot serve.
        StoppedError: The monitor asked to stop; features and heads are saved.
    """
    config: LinearConfig = inputs.config
    subject = FrozenEvaluation(inputs, config.data, config.extraction, monitor)
    kinds = choose_kinds(subject, config.grid.features)
    training = _Training(subject, config, kinds, inputs.seed)
    groups = make_groups(kinds, config, subject.num_classes, inputs.seed)
    probe = Probe(groups, config, subject.device, inputs.seed, monitor)
    identity = identity_of(inputs, subject.frozen, subject.images.fingerprint)
    trained = probe.train(training.epoch, training.holdout, inputs.out_dir / "heads", identity)
    winner = probe.winner()
    test = labelled(subject.val, list(kinds))
    verdict = probe.verdict(winner, test)
    best = score(verdict, subject.val.labels, subject.num_classes)
    path = inputs.out_dir / PREDICTIONS_FILE
    name, real = winner.name(), subject.judge_real(verdict)
    write_predictions(path, subject.val.indices, subject.val.labels, {name: verdict}, name, real)
    return TaskResult(
        metrics={
            "linear_top1": best.top1,
            "linear_top5": best.top5,
            "linear_mean_class": best.mean_class,
            "linear_real": real_top1(real),
        },
        per_class=subject.per_class(best),
        cost=subject.cost(),
        rates=subject.rates(monitor),
        curves={"step": trained.curves["epoch"], **trained.curves},
        coverage=subject.frozen.coverage.sentence(),
        details={**subject.details(), **_chosen(winner, trained, training)},
        files=(path,),
        warnings=(*subject.warnings(), *training.warnings()),
    )


def choose_kinds(subject: FrozenEvaluation, wanted: tuple[str, ...]) -> dict[str, int]:
    """Return the width by kind of those wanted features that the backbone has, each once.

    Raises:
        UserError: It has none of them.
    """
    layout = subject.frozen.layout
    if not any(kind in layout.kinds for kind in wanted):
        subject.check_kind(wanted[0], "grid.features")
    found: dict[str, int] = {}
    seen = set()
    for kind in wanted:
        columns = tuple(layout.columns(kind)) if kind in layout.kinds else None
        if columns is not None and columns not in seen:
            seen.add(columns)
            found[kind] = layout.width_of(kind)
    return found


class _Training:
    """The training images of each epoch, and those that are held out."""

    def __init__(
        self, subject: FrozenEvaluation, config: LinearConfig, kinds: Mapping[str, int], seed: int
    ) -> None:
        self._subject = subject
        self._config = config
        self._seed = seed
        self._kinds = list(kinds)
        self.holdout: Labelled | None = None
        self.kept_whole: tuple[int, ...] = ()
        labels = subject.train.labels.numpy()
        held = np.empty(0, dtype=np.int64)
        if config.grid.holdout:
            held, self.kept_whole = hold_out(labels, config.grid.holdout, seed)
            self.holdout = labelled(subject.train, self._kinds, held)
        self._places = others(len(labels), held)
        if len(self._places) < 2:
            raise PreflightError(
                f"{len(labels)} training images, {len(held)} of them held out, leave too few to "
                "train on; use more images."
            )
        self.num_heldout = len(held)
        self._central: Labelled | None = None
        self._last: RandomView | None = None

    def warnings(self) -> list[str]:
        """Return a sentence on classes that are too small to hold anything out."""
        count = len(self.kept_whole)
        if not count:
            return []
        classes = self._subject.images.classes
        names = first_of([classes[number] for number in self.kept_whole])
        return [
            f"{count} classes have too few training images to hold any out ({names}), so the "
            "choice among heads does not see them"
        ]

    def epoch(self, number: int) -> Labelled:
        """Return the training images of an epoch."""
        views = self._config.augment.views
        if not views:
            if self._central is None:
                self._central = labelled(self._subject.train, self._kinds, self._places)
            return self._central
        images = Subset(
            self._subject.images.train, self._subject.train.indices[self._places].tolist()
        )
        if self._last is not None and views >= self._config.schedule.epochs:
            self._subject.forget(images, self._last)
        augment = self._config.augment
        self._last = RandomView(
            self._config.data.img_size,
            augment.crop_scale,
            augment.flip,
            augment.interpolation,
            self._seed,
            number % views,
        )
        split = self._subject.split(images, self._last, f"train, view {number % views + 1}")
        return labelled(split, self._kinds)


def labelled(
    split: ReadableSplit, kinds: list[str], places: npt.NDArray[np.int64] | None = None
) -> Labelled:
    """Return images of a split as heads want them, in memory where there is room.

    Args:
        split: The images.
        kinds: Of features.
        places: Which of them; None for all.
    """
    chosen = np.arange(len(split)) if places is None else places
    labels = split.labels[torch.from_numpy(chosen)]
    size = 4 * len(chosen) * sum(split.table.layout.width_of(kind) for kind in kinds)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > _MEMORY_SHARE * free:
        return Labelled(lambda kind, at: split.table.rows(kind, chosen[at.numpy()]), labels)
    held: dict[str, Tensor] = {kind: split.table.rows(kind, chosen) for kind in kinds}
    return Labelled(lambda kind, at: held[kind][at], labels)


def _chosen(winner: HeadKey, trained: TrainedHeads, training: _Training) -> dict[str, Any]:
    """Return what decided the number."""
    shares = {key.name(): value for key, value in trained.holdout.items()}
    return {
        "chosen": {"features": winner.kind, "norm": winner.norm, "base_lr": winner.base_lr},
        "num_heads": sum(len(group.keys) for group in trained.groups),
        "num_heldout": training.num_heldout,
        "holdout_top1": shares,
        "holdout_median": median(shares.values()) if shares else None,
    }
