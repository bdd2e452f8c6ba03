"""Training with detectron2's AMPTrainer: its loop, hooks and losses, any device, exact resume."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import AMPTrainer, HookBase, hooks
from detectron2.utils.events import EventStorage, TensorboardXWriter
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from backbones.distributed import any_rank, mean_over_ranks, rank, world_size
from backbones.errors import StoppedError, UserError
from backbones.monitor import Monitor, Progress
from detection.config import DetectionConfig
from detection.optim import clip_gradients, set_lr
from detection.resume import StateFolder, TrainingState, collect, restore
from detection.schedule import Plan, micro_batches

Batch = list[dict[str, Any]]

# Points of a training curve; enough for a plot, few enough for a record.
CURVE_POINTS = 200

# Steps of a process that do not count for its speed: allocators and kernels warm up.
_WARMING_STEPS = 3
_TENSORBOARD_STEPS = 20
# Ranks agree on stopping by a collective, which is not worth its wait in every step.
_STOP_STEPS = 10


@dataclass(frozen=True)
class Training:
    """What a training is made of.

    Attributes:
        detector: On its device, not wrapped.
        optimizer: Over the detector's parameters.
        config: Resolved.
        plan: Its schedule in steps.
        seed: Of every random draw.
        folder: For states and TensorBoard files.
        identity: Of all that decides the course of the run.
    """

    detector: nn.Module
    optimizer: Optimizer
    config: DetectionConfig
    plan: Plan
    seed: int
    folder: Path
    identity: str


@dataclass(frozen=True)
class Trained:
    """How a training went.

    Attributes:
        curve: Columns "step", "lr", "loss" and one per named loss; means between two points.
        images_per_second: Over all devices, without warming up and saving; 0 when too short.
        seconds: Spent on steps, over all starts of the run.
    """

    curve: dict[str, list[float]]
    images_per_second: float
    seconds: float


class Trainer(AMPTrainer):
    """detectron2's trainer with bf16 or fp32, on any device, with accumulated gradients.

    Every micro-batch seeds torch from run seed, step and its number in the global batch: one
    process that accumulates and several that share the batch draw the same samples, and a
    resumed run needs no generator state.
    """

    def __init__(self, training: Training, model: nn.Module, batches: Iterator[Batch]) -> None:
        """Set up.

        Args:
            training: What to train.
            model: Its detector, wrapped for distributed training where there are several ranks.
            batches: This rank's micro-batches from the first step to run on.
        """
        device = next(model.parameters()).device.type
        scaler = torch.amp.GradScaler(device, enabled=False)
        super().__init__(model, batches, training.optimizer, grad_scaler=scaler)
        self.plan = training.plan
        self.latest: dict[str, float] = {}
        self._seed = training.seed
        self._clip_norm = training.config.optim.clip_norm
        self._micro_batches = micro_batches(training.config.schedule, world_size())
        self._device = device
        self._bf16 = training.config.schedule.precision == "bf16"
        self._pending: tuple[int, list[Any], list[str], Tensor] | None = None

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run steps ``start_iter`` to ``max_iter``, as detectron2's loop but without its traces."""
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            self.before_train()
            try:
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
            finally:
                self.after_train()

    def run_step(self) -> None:
        """Make one update from all micro-batches of this rank.

        Raises:
            UserError: A loss is not a finite number.
        """
        set_lr(self.optimizer, self.plan.lr * self.plan.factor(self.iter))
        self.optimizer.zero_grad(set_to_none=True)
        losses, image_ids = self._backward()
        self.after_backward()
        self.settle()
        self._pending = (self.iter, image_ids, list(losses), torch.stack(list(losses.values())))
        if self._device == "cpu":
            self.settle()
        clip_gradients(self.optimizer, self._clip_norm)
        self.optimizer.step()

    def settle(self) -> None:
        """Read the last losses back and check them.

        On a GPU this comes a step late, when reading no longer waits; nothing is saved before.

        Raises:
            UserError: One is not a finite number.
        """
        if self._pending is None:
            return
        step, image_ids, names, vector = self._pending
        self._pending = None
        values = mean_over_ranks(vector).tolist()
        self.latest = {"loss": sum(values), **dict(zip(names, values, strict=True))}
        if not torch.isfinite(torch.tensor(values)).all():
            bad = ", ".join(f"{name} = {self.latest[name]}" for name in names)
            raise self._diverged(step, bad, image_ids)
        self.storage.put_scalars(cur_iter=step, smoothing_hint=False, **self.latest)

    def _backward(self) -> tuple[dict[str, Tensor], list[Any]]:
        """Add up the gradients of all micro-batches; return mean losses and image ids."""
        sums: dict[str, Tensor] = {}
        image_ids: list[Any] = []
        for number in range(self._micro_batches):
            batch = next(self._data_loader_iter)
            image_ids += [item["image_id"] for item in batch]
            index = number * world_size() + rank()
            torch.manual_seed(micro_batch_seed(self._seed, self.iter, index))
            with self._maybe_no_sync(number), self._autocast():
                losses = self._losses(batch)
                loss = torch.stack(list(losses.values())).sum() / self._micro_batches
            with self._maybe_no_sync(number):
                loss.backward()  # type: ignore[no-untyped-call]
            for name, value in losses.items():
                share = value.detach() / self._micro_batches
                sums[name] = sums[name] + share if name in sums else share
        return sums, image_ids

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the detector's losses; its own alarm at NaN in proposals becomes ours."""
        try:
            losses: dict[str, Tensor] = self.model(batch)
        except FloatingPointError as error:
            image_ids = [item["image_id"] for item in batch]
            raise self._diverged(self.iter, "NaN in proposals", image_ids) from error
        return losses

    def _diverged(self, step: int, what: str, image_ids: list[Any]) -> UserError:
        return UserError(
            f"The loss is no finite number at step {step + 1} ({what}; images {image_ids}); "
            f"lower optim.base_lr (now {self.plan.lr:g} at batch {self.plan.batch_size}) or "
            "set optim.clip_norm, with --set."
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device, torch.bfloat16) if self._bf16 else nullcontext()

    def _maybe_no_sync(self, number: int) -> AbstractContextManager[Any]:
        """Exchange gradients only with the last micro-batch."""
        last = number == self._micro_batches - 1
        if isinstance(self.model, DistributedDataParallel) and not last:
            return self.model.no_sync()
        return nullcontext()


class _Reporter(HookBase):
    """Tells the monitor, and keeps the curve and the time."""

    def __init__(self, monitor: Monitor, plan: Plan, notes: dict[str, Any]) -> None:
        self._monitor = monitor
        self._plan = plan
        self._every = max(1, plan.num_steps // CURVE_POINTS)
        self.curve: dict[str, list[float]] = notes.get("curve", {})
        self._window: dict[str, float] = notes.get("window", {})
        self.seconds: float = notes.get("seconds", 0.0)
        self._timed: list[float] = notes.get("timed", [0, 0.0])
        self._recent = 0.0
        self._start = 0.0

    def notes(self) -> dict[str, Any]:
        """Return what has to survive a restart."""
        return {
            "curve": self.curve,
            "window": self._window,
            "seconds": self.seconds,
            "timed": self._timed,
        }

    @property
    def images_per_second(self) -> float:
        """Speed over all timed steps, 0 without any."""
        steps, seconds = self._timed
        return self._plan.batch_size * steps / seconds if seconds else 0.0

    def before_step(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def after_step(self) -> None:
        """Take time and losses down."""
        seconds = time.perf_counter() - self._start
        step = self.trainer.iter + 1
        self.seconds += seconds
        if step - self.trainer.start_iter > _WARMING_STEPS:
            self._timed = [self._timed[0] + 1, self._timed[1] + seconds]
        self._recent = 0.9 * self._recent + 0.1 * seconds if self._recent else seconds
        lr = self._plan.lr * self._plan.factor(self.trainer.iter)
        self._add_to_curve(step, lr)
        self._monitor.progress(
            Progress(
                phase="train",
                step=step,
                num_steps=self._plan.num_steps,
                images_per_second=self._plan.batch_size / self._recent,
                losses=self.trainer.latest,
                lr=lr,
            )
        )

    def _add_to_curve(self, step: int, lr: float) -> None:
        for name, value in self.trainer.latest.items():
            self._window[name] = self._window.get(name, 0.0) + value / self._every
        if step % self._every == 0:
            point = {"step": step, "lr": lr, **self._window}
            for name, value in point.items():
                self.curve.setdefault(name, []).append(value)
            self._window = {}


class _Saver(HookBase):
    """Saves the state from time to time, at the end, and when the run has to stop."""

    def __init__(
        self, training: Training, states: StateFolder, monitor: Monitor, reporter: _Reporter
    ) -> None:
        self._training = training
        self._states = states
        self._monitor = monitor
        self._reporter = reporter
        schedule = training.config.schedule
        self._every = max(1, schedule.checkpoint_images // schedule.batch_size)

    def after_step(self) -> None:
        """Save, and stop where that is wanted.

        Raises:
            StoppedError: The monitor wants the run to stop; the state is saved.
        """
        step = self.trainer.iter + 1
        finished = step == self.trainer.max_iter
        alone = world_size() == 1
        asked = (alone or step % _STOP_STEPS == 0) and any_rank(self._monitor.should_stop())
        if finished or asked or step % self._every == 0:
            self.trainer.settle()
            if rank() == 0:
                tensors = collect(self._training.detector, self._training.optimizer)
                self._states.save(TrainingState(step, tensors, self._reporter.notes()))
        if asked and not finished:
            raise StoppedError(f"Stopped after step {step} of {self.trainer.max_iter}; saved.")


def train(
    training: Training,
    wrap: Callable[[nn.Module], nn.Module],
    batches_from: Callable[[int], Iterator[Batch]],
    monitor: Monitor,
) -> Trained:
    """Train to the end of the plan, going on from the newest saved state.

    Args:
        training: What to train.
        wrap: Wraps the detector for distributed training.
        batches_from: This rank's micro-batches from a step on.
        monitor: Told of progress; asked whether to stop.

    Raises:
        StoppedError: The monitor wanted to stop; the state is saved.
        UserError: A loss is no finite number, or the folder holds another run's state.
        PreflightError: The state cannot be written.
    """
    states = StateFolder(training.folder / "states", training.identity)
    state = states.newest(monitor.say)
    if state is not None:
        restore(training.detector, training.optimizer, state.tensors)
        monitor.say(f"Going on from step {state.step} of {training.plan.num_steps}.")
    start = state.step if state is not None else 0
    reporter = _Reporter(monitor, training.plan, state.notes if state is not None else {})
    if start < training.plan.num_steps:
        batches = batches_from(start)
        trainer = Trainer(training, wrap(training.detector), batches)
        writers = [TensorboardXWriter(str(training.folder / "tensorboard"))] if rank() == 0 else []
        trainer.register_hooks(
            [
                reporter,
                hooks.PeriodicWriter(writers, period=_TENSORBOARD_STEPS),
                _Saver(training, states, monitor, reporter),
            ]
        )
        trainer.train(start, training.plan.num_steps)
    return Trained(reporter.curve, reporter.images_per_second, reporter.seconds)


def micro_batch_seed(seed: int, step: int, index: int) -> int:
    """Return torch's seed for micro-batch ``index`` of the global batch of ``step``."""
    digest = blake2b(f"{seed} {step} {index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
