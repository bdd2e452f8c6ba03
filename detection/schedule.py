"""Image counts to steps, by arithmetic, for any data set and any global batch."""

import math
from dataclasses import dataclass

from detection.config import DetectionDataConfig, DetectionOptimConfig, DetectionScheduleConfig

# Longest warm-up, as a share of the run: on small data a warm-up counted in images would
# otherwise outlast the training.
LONGEST_WARMUP = 0.1


@dataclass(frozen=True)
class Plan:
    """A schedule in steps.

    Attributes:
        num_images: Training images in use.
        num_steps: Optimizer updates in all.
        warmup_steps: Of them, with a rising rate.
        drop_steps: Steps at which the rate falls to a tenth.
        cosine: The rate falls along a half cosine instead.
        warmup_factor: Of the rate at the first step.
        lr: The rate after warm-up, scaled to the global batch.
        batch_size: Images a step over all devices.
        epochs: Passes that ``num_steps`` amount to.
    """

    num_images: int
    num_steps: int
    warmup_steps: int
    drop_steps: tuple[int, ...]
    cosine: bool
    warmup_factor: float
    lr: float
    batch_size: int
    epochs: float

    def factor(self, step: int) -> float:
        """Return the rate of ``step`` (from 0) as a share of ``lr``."""
        if step < self.warmup_steps:
            rise = step / self.warmup_steps
            return self.warmup_factor * (1 - rise) + rise * self._decayed(self.warmup_steps)
        return self._decayed(step)

    def _decayed(self, step: int) -> float:
        if self.cosine:
            return 0.5 * (1 + math.cos(math.pi * step / self.num_steps))
        return 0.1 ** sum(step >= drop for drop in self.drop_steps)

    def lines(self) -> list[str]:
        """Return the plan as lines for people, in steps and in epochs."""
        drops = ", ".join(
            f"step {step} (epoch {step * self.batch_size / self.num_images:.1f})"
            for step in self.drop_steps
        )
        decay = "cosine to 0" if self.cosine else f"x0.1 at {drops}" if drops else "constant"
        return [
            f"{self.num_images} images x {self.epochs:g} epochs / batch {self.batch_size} "
            f"= {self.num_steps} steps",
            f"lr {self.lr:g} at batch {self.batch_size}, warm-up {self.warmup_steps} steps, "
            f"then {decay}",
        ]


def images_in_use(config: DetectionDataConfig, num_images: int) -> int:
    """Return how many of ``num_images`` training images the fraction leaves, at least one."""
    return max(1, round(config.train_fraction * num_images))


def num_steps(config: DetectionScheduleConfig, num_images: int) -> int:
    """Return the number of updates for ``num_images`` training images in use, at least one."""
    return max(1, round(config.epochs * num_images / config.batch_size))


def make_plan(
    schedule: DetectionScheduleConfig, optim: DetectionOptimConfig, num_images: int
) -> Plan:
    """Turn epochs, shares and image counts into steps.

    Args:
        schedule: Length and batch.
        optim: Base rate and its scaling.
        num_images: Training images in use, after ``images_in_use``.
    """
    steps = num_steps(schedule, num_images)
    warmup = min(round(schedule.warmup_images / schedule.batch_size), int(LONGEST_WARMUP * steps))
    step_decay = schedule.decay == "step"
    return Plan(
        num_images=num_images,
        num_steps=steps,
        warmup_steps=warmup,
        drop_steps=tuple(round(share * steps) for share in schedule.drops) if step_decay else (),
        cosine=not step_decay,
        warmup_factor=schedule.warmup_factor,
        lr=scaled_lr(optim, schedule.batch_size),
        batch_size=schedule.batch_size,
        epochs=schedule.epochs,
    )


def scaled_lr(optim: DetectionOptimConfig, batch_size: int) -> float:
    """Return the learning rate for a global batch, by the configured rule."""
    ratio = batch_size / optim.reference_batch_size
    return (
        optim.base_lr * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[optim.lr_scaling]
    )
