"""Values that change over a run, as functions of progress (0 to 1); fvcore's schedulers.

The value of step i (from 0) of n is the schedule at i / n: what the official loops compute from
iteration counts or fractional epochs (facebookresearch/mae ``util/lr_sched.py``, dino
``utils.cosine_scheduler``, moco-v3 ``adjust_learning_rate``, SimMIM ``lr_scheduler.py``). One
difference is left: DINO's warm-up reaches its peak one step earlier, with its last step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)

from backbones.base.errors import UserError
from backbones.training.config import OptimConfig, ScheduleConfig


@dataclass(frozen=True)
class Plan:
    """A schedule in steps.

    Attributes:
        num_images: Images in use.
        num_steps: Optimizer updates in all.
        batch_size: Images a step over all devices.
        epochs: Passes that ``num_steps`` amount to.
        lr: Learning rate after warm-up, scaled to the global batch.
        lr_at: Learning rate by progress.
        weight_decay_at: Weight decay by progress.
        about_lr: The course of the rate, for people.
    """

    num_images: int
    num_steps: int
    batch_size: int
    epochs: float
    lr: float
    lr_at: Callable[[float], float]
    weight_decay_at: Callable[[float], float]
    about_lr: str

    def epoch(self, step: int) -> float:
        """Return the passes over the images that ``step`` steps amount to."""
        return step * self.batch_size / self.num_images

    def step_after(self, epochs: float) -> int:
        """Return the number of steps after which so many epochs are done."""
        return math.ceil(epochs * self.num_images / self.batch_size)

    def lines(self) -> list[str]:
        """Return the plan as lines for people."""
        return [
            f"{self.num_images} images x {self.epochs:g} epochs / batch {self.batch_size} "
            f"= {self.num_steps} steps",
            f"lr {self.lr:g} at batch {self.batch_size}, {self.about_lr}",
        ]


def num_steps(schedule: ScheduleConfig, num_images: int) -> int:
    """Return the number of updates for ``num_images`` images in use, at least one.

    Epochs follow each other without a gap, so no image is left over but in the last step.

    Raises:
        UserError: There are fewer images than one batch takes.
    """
    if num_images < schedule.batch_size:
        raise UserError(
            f"There are {num_images} images, fewer than a batch of {schedule.batch_size}; lower "
            "schedule.batch_size with --set, or use more images."
        )
    return steps_of(schedule.epochs, num_images, schedule.batch_size)


def steps_of(epochs: float, num_images: int, batch_size: int) -> int:
    """Return the number of updates that ``epochs`` passes amount to, at least one."""
    return max(1, round(epochs * num_images / batch_size))


def make_plan(schedule: ScheduleConfig, optim: OptimConfig, num_images: int) -> Plan:
    """Turn epochs and image counts into steps.

    Args:
        schedule: Length, batch and course of the learning rate.
        optim: Rates and weight decay.
        num_images: In use.

    Raises:
        UserError: There are fewer images than one batch takes.
    """
    end = optim.weight_decay if optim.weight_decay_end < 0 else optim.weight_decay_end
    return Plan(
        num_images=num_images,
        num_steps=num_steps(schedule, num_images),
        batch_size=schedule.batch_size,
        epochs=schedule.epochs,
        lr=optim.scaled(schedule.batch_size),
        lr_at=lr_schedule(schedule, optim),
        weight_decay_at=CosineParamScheduler(optim.weight_decay, end),
        about_lr=_about_lr(schedule),
    )


def lr_schedule(schedule: ScheduleConfig, optim: OptimConfig) -> ParamScheduler:
    """Return the learning rate by progress: a linear warm-up, then the configured decay."""
    scale = schedule.batch_size / optim.reference_batch_size
    peak = optim.scaled(schedule.batch_size)
    low = optim.min_lr * (scale if optim.scale_min_lr else 1.0)
    warmup = schedule.warmup_epochs / schedule.epochs
    decay, scaling = _decay(schedule, peak, low)
    if warmup <= 0:
        return decay
    rise = LinearParamScheduler(optim.warmup_base_lr * scale, peak)
    if warmup >= 1:
        return rise
    return CompositeParamScheduler([rise, decay], [warmup, 1 - warmup], ["rescaled", scaling])


def warm_temperature(start: float, end: float, warmup_epochs: int, epoch: float) -> float:
    """Return DINO's teacher temperature in ``epoch``: by whole epochs, linear, then constant.

    The last of ``warmup_epochs`` epochs has ``end`` already (dino ``main_dino.py``, DINOLoss:
    ``np.linspace(start, end, warmup_epochs)``).
    """
    whole = int(epoch)
    if whole >= warmup_epochs or warmup_epochs == 1:
        return start if whole < warmup_epochs else end
    return start + (end - start) * whole / (warmup_epochs - 1)


class DropSchedule(ParamScheduler):  # type: ignore[misc]
    """A value that falls to a tenth at each of some points of a run."""

    def __init__(self, value: float, drops: tuple[float, ...]) -> None:
        """Start from ``value``; ``drops`` are shares of the run."""
        self._value = value
        self._drops = drops

    def __call__(self, where: float) -> float:
        """Return the value at progress ``where``."""
        passed = sum(where + self.WHERE_EPSILON > drop for drop in self._drops)
        return float(self._value * 0.1**passed)


def _decay(schedule: ScheduleConfig, peak: float, low: float) -> tuple[ParamScheduler, str]:
    """Return what follows the warm-up, and how fvcore places it in the run."""
    if schedule.decay == "cosine":
        placed = "fixed" if schedule.cosine_from_start else "rescaled"
        return CosineParamScheduler(peak, low), placed
    if schedule.decay == "step":
        drops = tuple(epoch / schedule.epochs for epoch in schedule.drop_epochs)
        return DropSchedule(peak, drops), "fixed"
    return ConstantParamScheduler(peak), "fixed"


def _about_lr(schedule: ScheduleConfig) -> str:
    drops = ", ".join(f"{epoch:g}" for epoch in schedule.drop_epochs)
    then = {"cosine": "a half cosine", "step": f"x0.1 at epoch {drops}", "constant": "constant"}
    return f"warm-up {schedule.warmup_epochs:g} epochs, then {then[schedule.decay]}"
