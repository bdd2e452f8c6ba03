"""The sections that every training has in common: optimizer, schedule and runtime."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from backbones.base.sections import HOW_IT_IS_DONE, OUTSIDE_IDENTITY, Conflict, Section
from backbones.base.values import (
    Betas,
    Count,
    CountOrZero,
    NotNegative,
    Positive,
)

# Of a forward pass: "bf16" is autocast; parameters and results are fp32 in both.
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class OptimConfig(Section):
    """The optimizer and what is done to gradients. Defaults are MAE's.

    Attributes:
        optimizer: "adamw", or "lars", which takes the first of ``betas`` as its momentum.
        base_lr: Learning rate after warm-up, at ``reference_batch_size`` images a step.
        reference_batch_size: Global batch size that the rates are given for.
        warmup_base_lr: Rate at the first step of the warm-up, scaled like ``base_lr``.
        min_lr: Learning rate at the end.
        scale_min_lr: Scale ``min_lr`` like ``base_lr``; else it is absolute.
        betas: Decay rates of the first and the second moment.
        eps: Added to the root of the second moment.
        weight_decay: Weight decay at the start.
        weight_decay_end: Weight decay at the end, reached along a half cosine; a negative value
            keeps ``weight_decay`` throughout.
        spared: What is not decayed: "vectors" (1-D tensors, biases, and what the objective
            names) or "nothing".
        clip: "global" bounds the norm of all gradients together, "tensor" that of each parameter
            separately, "none" does not clip.
        clip_norm: Largest norm; has no effect with ``clip`` "none".
    """

    optimizer: Literal["adamw", "lars"] = "adamw"
    base_lr: Positive = 1.5e-4
    reference_batch_size: Count = 256
    warmup_base_lr: NotNegative = 0.0
    min_lr: NotNegative = 0.0
    scale_min_lr: bool = False
    betas: Betas = (0.9, 0.95)
    eps: NotNegative = 1e-8
    weight_decay: NotNegative = 0.05
    weight_decay_end: float = -1.0
    spared: Literal["vectors", "nothing"] = "vectors"
    clip: Literal["none", "global", "tensor"] = "none"
    clip_norm: NotNegative = 0.0

    def conflicts(self) -> Iterator[Conflict]:
        """Yield a largest norm of 0, which would stop the training."""
        if self.clip != "none" and not self.clip_norm:
            yield Conflict("clip_norm", f'a number above 0 with optim.clip "{self.clip}"')

    @property
    def momentum(self) -> float:
        """Momentum of LARS."""
        return self.betas[0]

    def scaled(self, batch_size: int) -> float:
        """Return the learning rate after warm-up for a global batch."""
        return self.base_lr * batch_size / self.reference_batch_size


@dataclass(frozen=True)
class ScheduleConfig(Section):
    """How long, in which portions and at which precision. Defaults are MAE's.

    Attributes:
        epochs: Passes over the images in use.
        batch_size: Images a step over all devices.
        batch_size_per_device: Images a device holds at once by the recipe; gradients accumulate up
            to ``batch_size``.
        micro_batch: Images that a device really holds at once, which changes no result; 0 chooses:
            as the memory of a GPU allows, else ``batch_size_per_device``.
        warmup_epochs: Epochs over which the learning rate rises linearly.
        decay: "cosine" to ``optim.min_lr``, "step" or "constant".
        cosine_from_start: The cosine counts from the first step and is entered after the warm-up
            where it then stands (timm's schedule, in SimMIM); else it counts from the warm-up's
            end.
        drop_epochs: Epochs at which the learning rate falls to a tenth, with ``decay`` "step".
        precision: "fp32", or "bf16" for autocast.
        checkpoint_epochs: Epochs between two kept checkpoints of the backbone; 0 keeps only the
            last.
        state_images: Images between two saved states, at least one step.
    """

    epochs: Positive = 800.0
    batch_size: Count = 4096
    batch_size_per_device: Count = 64
    warmup_epochs: NotNegative = 40.0
    decay: Literal["cosine", "step", "constant"] = "cosine"
    cosine_from_start: bool = False
    drop_epochs: tuple[NotNegative, ...] = ()
    precision: Precision = "bf16"
    checkpoint_epochs: NotNegative = 100.0
    state_images: Count = 1_300_000
    micro_batch: CountOrZero = field(default=0, metadata=OUTSIDE_IDENTITY)

    def conflicts(self) -> Iterator[Conflict]:
        """Yield batches that cannot be divided, a warmup too long, and drops without effect."""
        yield from undivided(self.batch_size, self.batch_size_per_device, self.micro_batch)
        if self.warmup_epochs > self.epochs:
            yield Conflict(
                "warmup_epochs", f"a number of at most schedule.epochs ({self.epochs:g})"
            )
        if self.decay == "step" and not self.drop_epochs:
            yield Conflict("drop_epochs", 'at least one epoch with schedule.decay "step"')
        if self.decay != "step" and self.drop_epochs:
            yield Conflict("drop_epochs", '[], or set schedule.decay to "step"')


def undivided(batch_size: int, batch_size_per_device: int, micro_batch: int) -> Iterator[Conflict]:
    """Yield a schedule's batch size that is not a multiple of what a device holds at once."""
    if micro_batch and batch_size % micro_batch:
        yield Conflict("micro_batch", f"0 or a divisor of schedule.batch_size ({batch_size})")
    if batch_size % batch_size_per_device:
        allowed = f"a multiple of schedule.batch_size_per_device ({batch_size_per_device})"
        yield Conflict("batch_size", allowed)


@dataclass(frozen=True)
class RuntimeConfig(Section):
    """How the work is done; nothing here changes what is computed, except for rounding.

    Attributes:
        compile: Compile the objective with ``torch.compile``.
        activation_checkpointing: Recompute backbone activations in the backward pass.
        read_every: Steps between two readings of the losses from the device.
        picture_every: Steps between two pictures; 0 draws only the last.
    """

    compile: bool = field(default=False, metadata=HOW_IT_IS_DONE)
    activation_checkpointing: bool = field(default=False, metadata=HOW_IT_IS_DONE)
    read_every: Count = field(default=20, metadata=HOW_IT_IS_DONE)
    picture_every: CountOrZero = field(default=0, metadata=HOW_IT_IS_DONE)


class OptimSettings(Protocol):
    """What the training loop reads of a recipe's section ``optim``, whatever else it holds."""

    @property
    def optimizer(self) -> str:
        """Name of the optimizer: "adamw", "lars" or "sgd"."""

    @property
    def betas(self) -> tuple[float, float]:
        """Decay rates of AdamW's moments."""

    @property
    def eps(self) -> float:
        """What AdamW adds to the root of the second moment."""

    @property
    def momentum(self) -> float:
        """Momentum of SGD and LARS."""

    @property
    def spared(self) -> str:
        """Decay spares "vectors" or "nothing", in addition to what the objective names."""

    @property
    def clip(self) -> str:
        """What ``clip_norm`` bounds: "none", "global" or "tensor", as in ``OptimConfig``."""

    @property
    def clip_norm(self) -> float:
        """Largest norm of gradients."""


class ScheduleSettings(Protocol):
    """What the training loop reads of a recipe's section ``schedule``, whatever else it holds."""

    @property
    def batch_size(self) -> int:
        """Images a step over all devices."""

    @property
    def batch_size_per_device(self) -> int:
        """Images a device holds at once by the recipe."""

    @property
    def micro_batch(self) -> int:
        """Images that a device really holds at once; 0 where nobody chose."""

    @property
    def precision(self) -> str:
        """Precision of the forward: "fp32", or "bf16" for autocast."""

    @property
    def state_images(self) -> int:
        """Images between two saved states, at least one step."""
