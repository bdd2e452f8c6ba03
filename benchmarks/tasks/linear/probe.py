"""Training a grid of linear heads in one pass over features, and choosing among them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from backbones.base.errors import StoppedError, UserError
from backbones.base.monitor import Monitor, Progress
from backbones.training.state import StateFolder, TrainingState, random_seed
from backbones.training.stream import epoch_order
from benchmarks.labelled.scores import ClassifierOutput, judge
from benchmarks.tasks.linear.heads import HeadGroup, HeadKey, HeadOptimizer
from benchmarks.tasks.linear.recipes import LinearConfig, ProbeScheduleConfig

# Rows that heads look at at once when they are not trained.
_ROWS = 4_096

Rows = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Labelled:
    """Features with classes.

    Attributes:
        rows: Called with a kind of features and (n,) places: (n, D) float32 on any device.
        labels: (N,) int64 classes.
    """

    rows: Rows
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)


@dataclass
class TrainedHeads:
    """Heads that were trained, and how it went.

    Attributes:
        groups: The heads.
        curves: "epoch", "loss" (of the median head) and, with held-out images, "holdout_best" and
            "holdout_median" in percent.
        holdout: Held-out top1 by head, percent; empty without held-out images.
    """

    groups: Sequence[HeadGroup]
    curves: dict[str, list[float]] = field(default_factory=dict)
    holdout: dict[HeadKey, float] = field(default_factory=dict)


def make_groups(
    kinds: Mapping[str, int], config: LinearConfig, num_classes: int, seed: int
) -> list[HeadGroup]:
    """Return the heads of a grid with fresh weights.

    Args:
        kinds: Width by kind of features.
        config: The recipe.
        num_classes: Of the data.
        seed: For the weights; torch's global generator stays as it was.
    """
    groups = []
    for kind, norm in product(kinds, config.grid.norms):
        keys = [HeadKey(kind, norm, lr) for lr in config.grid.base_lrs]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(random_seed("head", seed, kind))
            groups.append(HeadGroup(keys, num_classes, kinds[kind], config.head))
    return groups


def lr_factor(schedule: ProbeScheduleConfig, epoch: float) -> float:
    """Return the share of the peak learning rate after so many epochs.

    facebookresearch/mae ``util/lr_sched.py`` by steps; torch's ``CosineAnnealingLR`` by epochs.
    """
    at = float(math.floor(epoch)) if schedule.lr_by == "epoch" else epoch
    if at < schedule.warmup_epochs:
        return at / schedule.warmup_epochs
    length = schedule.epochs - schedule.warmup_epochs
    return 0.5 * (1 + math.cos(math.pi * (at - schedule.warmup_epochs) / length)) if length else 1.0


class Probe:
    """Trains all heads, epoch by epoch, going on from a saved state."""

    def __init__(
        self,
        groups: Sequence[HeadGroup],
        config: LinearConfig,
        device: torch.device,
        seed: int,
        monitor: Monitor,
    ) -> None:
        """Set up.

        Args:
            groups: With fresh weights.
            config: The recipe.
            device: Where the products are computed.
            seed: Of the order of images.
            monitor: To report to.
        """
        self._groups = [group.to(device) for group in groups]
        self._config = config
        self._device = device
        self._seed = seed
        self._monitor = monitor
        self._optimizer = HeadOptimizer(self._groups, config.head, config.schedule.batch_size)
        self._trained = TrainedHeads(self._groups, {"epoch": [], "loss": []})

    def train(
        self,
        epoch_data: Callable[[int], Labelled],
        holdout: Labelled | None,
        folder: Path,
        identity: Mapping[str, str],
    ) -> TrainedHeads:
        """Train to the end.

        Args:
            epoch_data: Training images of an epoch, always the same ones, in whatever view.
            holdout: Images that heads are compared on.
            folder: For states.
            identity: All that decides the course of the run.

        Raises:
            StoppedError: The monitor asked to stop; the state is saved.
        """
        states = StateFolder(folder, identity)
        saved = states.newest(self._monitor.say)
        first = 0 if saved is None else self._load(saved)
        for epoch in range(first, self._config.schedule.epochs):
            try:
                data = epoch_data(epoch)
            except StoppedError:
                states.save(self._state(epoch))
                raise
            self._one_epoch(epoch, data)
            if holdout is not None:
                self._trained.holdout = self._shares(holdout)
                self._compare(self._trained.holdout)
            stop = self._monitor.should_stop()
            if stop or self._config.augment.views:
                states.save(self._state(epoch + 1))
            if stop:
                raise StoppedError
        if holdout is not None and not self._trained.holdout:
            self._trained.holdout = self._shares(holdout)
        return self._trained

    def verdict(self, key: HeadKey, data: Labelled) -> ClassifierOutput:
        """Return what one head says of images."""
        group = next(group for group in self._groups if key in group.keys)
        number = group.keys.index(key)
        parts = [
            judge(group.logits(rows)[:, number], labels)
            for rows, labels in self._pieces(data, group)
        ]
        return ClassifierOutput(
            torch.cat([part.predicted for part in parts]), torch.cat([p.rank for p in parts])
        )

    def winner(self) -> HeadKey:
        """Return the head with the best held-out top1; of equals the first in the grid.

        Raises:
            UserError: Not one head has finite weights.
        """
        finite = [
            key
            for group in self._groups
            for key, weights in zip(group.keys, group.weights, strict=True)
            if bool(torch.isfinite(weights).all())
        ]
        if not finite:
            raise UserError("Every head diverged; use lower rates with --set grid.base_lrs=[…].")
        return max(finite, key=lambda key: self._trained.holdout.get(key, 0.0))

    def _one_epoch(self, epoch: int, data: Labelled) -> None:
        schedule = self._config.schedule
        size = min(schedule.batch_size, len(data))
        steps = len(data) // size
        order = epoch_order(len(data), self._seed, epoch)
        total = [torch.zeros(len(g.keys), device=self._device) for g in self._groups]
        for step in range(steps):
            places = order[step * size : (step + 1) * size]
            labels = data.labels[places].to(self._device)
            rows: dict[str, Tensor] = {}
            gradients = []
            for number, group in enumerate(self._groups):
                kind = group.keys[0].kind
                if kind not in rows:
                    rows[kind] = data.rows(kind, places).to(self._device)
                losses, weights, biases = group.gradients(rows[kind], labels)
                total[number] += losses
                gradients.append((weights, biases))
            self._optimizer.step(gradients, lr_factor(schedule, epoch + step / steps))
        losses_now = (torch.cat(total) / steps).tolist()
        # Of a wide grid some heads diverge.
        loss = median(value if math.isfinite(value) else math.inf for value in losses_now)
        curves = self._trained.curves
        curves["epoch"].append(epoch + 1)
        curves["loss"].append(loss)
        shown = {"loss": loss} if math.isfinite(loss) else None
        self._monitor.progress(Progress("train heads", epoch + 1, schedule.epochs, 0.0, shown))

    def _shares(self, holdout: Labelled) -> dict[HeadKey, float]:
        """Return every head's top1 on the held-out images, percent."""
        found: dict[HeadKey, float] = {}
        for group in self._groups:
            right = torch.zeros(len(group.keys), device=self._device)
            for rows, labels in self._pieces(holdout, group):
                right += group.right(rows, labels)
            shares = (100.0 * right / len(holdout)).tolist()
            found |= dict(zip(group.keys, shares, strict=True))
        return found

    def _compare(self, found: Mapping[HeadKey, float]) -> None:
        curves = self._trained.curves
        curves.setdefault("holdout_best", []).append(max(found.values()))
        curves.setdefault("holdout_median", []).append(median(found.values()))

    def _pieces(self, data: Labelled, group: HeadGroup) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the rows (n, D) and labels (n,) that a group takes, on the device, in order."""
        for start in range(0, len(data), _ROWS):
            places = torch.arange(start, min(start + _ROWS, len(data)))
            rows = data.rows(group.keys[0].kind, places).to(self._device)
            yield rows, data.labels[places].to(self._device)

    def _state(self, epoch: int) -> TrainingState:
        tensors = {
            f"{number}.{name}": value.detach().cpu().contiguous()
            for number, group in enumerate(self._groups)
            for name, value in group.state().items()
        }
        tensors |= {k: v.detach().cpu().contiguous() for k, v in self._optimizer.state().items()}
        return TrainingState(epoch, tensors, {"curves": self._trained.curves})

    def _load(self, saved: TrainingState) -> int:
        for number, group in enumerate(self._groups):
            prefix = f"{number}."
            state = {
                k.removeprefix(prefix): v for k, v in saved.tensors.items() if k.startswith(prefix)
            }
            group.load(state)
        self._optimizer.load(saved.tensors)
        self._trained.curves = {k: list(v) for k, v in saved.notes["curves"].items()}
        return saved.step
