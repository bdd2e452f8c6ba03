"""Epochs and image counts to steps and rates, for any data set and global batch."""

import math
from dataclasses import dataclass

from fvcore.common.param_scheduler import ConstantParamScheduler

from backbones.training.schedules import Plan, steps_of
from detection.config import DetectionDataConfig, DetectionOptimConfig, DetectionScheduleConfig

# Longest warm-up, as a share of the run: on small data a warm-up counted in images would
# otherwise outlast the training.
LONGEST_WARMUP = 0.1


@dataclass(frozen=True)
class Rate:
    """The learning rate over a run, by progress (0 to 1).

    Attributes:
        lr: Rate after warm-up, scaled to the global batch.
        num_steps: Optimizer updates in all.
        warmup_steps: Of them, with a rising rate.
        warmup_factor: Of the rate at the first step.
        drop_steps: Steps at which the rate falls to a tenth.
        cosine: The rate falls along a half cosine instead.
    """

    lr: float
    num_steps: int
    warmup_steps: int
    warmup_factor: float
    drop_steps: tuple[int, ...]
    cosine: bool

    def __call__(self, where: float) -> float:
        """Return the rate of the step at progress ``where``."""
        return self.lr * self.factor(round(where * self.num_steps))

    def factor(self, step: int) -> float:
        """Return the rate of ``step`` (from 0) as a share of ``lr``."""
        if step < self.warmup_steps:
            rise = step / self.warmup_steps
            return self.warmup_factor * (1 - rise) + rise * self._decayed(self.warmup_steps)
        return self._decayed(step)

    def about(self, steps_per_epoch: float) -> str:
        """Return the course of the rate in words, in steps and in epochs."""
        drops = ", ".join(f"step {n} (epoch {n / steps_per_epoch:.1f})" for n in self.drop_steps)
        decay = "cosine to 0" if self.cosine else f"x0.1 at {drops}" if drops else "constant"
        return f"warm-up {self.warmup_steps} steps, then {decay}"

    def _decayed(self, step: int) -> float:
        if self.cosine:
            return 0.5 * (1 + math.cos(math.pi * step / self.num_steps))
        return 0.1 ** sum(step >= drop for drop in self.drop_steps)


def images_in_use(config: DetectionDataConfig, num_images: int) -> int:
    """Return how many of ``num_images`` training images the fraction leaves, at least one."""
    return max(1, round(config.train_fraction * num_images))


def num_steps(config: DetectionScheduleConfig, num_images: int) -> int:
    """Return the number of updates for ``num_images`` training images in use, at least one."""
    return steps_of(config.epochs, num_images, config.batch_size)


def make_plan(
    schedule: DetectionScheduleConfig, optim: DetectionOptimConfig, num_images: int
) -> Plan:
    """Turn epochs, shares and image counts into steps.

    Args:
        schedule: Length and batch.
        optim: Base rate and its scaling, and weight decay.
        num_images: Training images in use, after ``images_in_use``.
    """
    steps, batch_size = num_steps(schedule, num_images), schedule.batch_size
    step_decay = schedule.decay == "step"
    rate = Rate(
        lr=scaled_lr(optim, batch_size),
        num_steps=steps,
        warmup_steps=min(round(schedule.warmup_images / batch_size), int(LONGEST_WARMUP * steps)),
        warmup_factor=schedule.warmup_factor,
        drop_steps=tuple(round(share * steps) for share in schedule.drops) if step_decay else (),
        cosine=not step_decay,
    )
    return Plan(
        num_images=num_images,
        num_steps=steps,
        batch_size=batch_size,
        epochs=schedule.epochs,
        lr=rate.lr,
        lr_at=rate,
        weight_decay_at=ConstantParamScheduler(optim.weight_decay),
        about_lr=rate.about(num_images / batch_size),
    )


def scaled_lr(optim: DetectionOptimConfig, batch_size: int) -> float:
    """Return the learning rate for a global batch, by the configured rule."""
    ratio = batch_size / optim.reference_batch_size
    return (
        optim.base_lr * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[optim.lr_scaling]
    )
