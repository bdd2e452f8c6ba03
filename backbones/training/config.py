"""The sections that every training has in common: optimizer, schedule and runtime."""

from dataclasses import dataclass
from typing import Protocol

DECAYS = ("cosine", "step", "constant")


OPTIMIZERS = ("adamw", "lars")


SPARED = ("vectors", "nothing")


CLIPS = ("none", "global", "tensor")


PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and what is done to gradients. Defaults are MAE's.

    Attributes:
        optimizer: "adamw", or "lars", which takes the first of ``betas`` as its momentum.
        base_lr: Learning rate after warm-up, at ``reference_batch_size`` images a step.
        reference_batch_size: Global batch size that the rates are given for.
        warmup_base_lr: Rate at the first step of the warm-up, scaled like ``base_lr``.
        min_lr: Rate at the end.
        scale_min_lr: Scale ``min_lr`` like ``base_lr``; else it is absolute.
        betas: Of the moments.
        eps: Added to the root of the second moment.
        weight_decay: At the start.
        weight_decay_end: At the end, reached along a half cosine; a negative value keeps
            ``weight_decay`` throughout.
        spared: What is not decayed: "vectors" (1-D tensors and biases, and what the objective
            names beside) or "nothing".
        clip: "global" bounds the norm of all gradients together, "tensor" that of each parameter
            for itself, "none" nothing.
        clip_norm: The bound.
    """

    optimizer: str = "adamw"
    base_lr: float = 1.5e-4
    reference_batch_size: int = 256
    warmup_base_lr: float = 0.0
    min_lr: float = 0.0
    scale_min_lr: bool = False
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.05
    weight_decay_end: float = -1.0
    spared: str = "vectors"
    clip: str = "none"
    clip_norm: float = 0.0

    @property
    def momentum(self) -> float:
        """Momentum of LARS."""
        return self.betas[0]

    def scaled(self, batch_size: int) -> float:
        """Return the learning rate after warm-up for a global batch."""
        return self.base_lr * batch_size / self.reference_batch_size


@dataclass(frozen=True)
class ScheduleConfig:
    """How long, in which portions and at which precision. Defaults are MAE's.

    Attributes:
        epochs: Passes over the images in use.
        batch_size: Images a step over all devices.
        batch_size_per_device: Images a device holds at once; gradients accumulate up to
            ``batch_size``.
        warmup_epochs: Over which the rate rises linearly.
        decay: "cosine" to ``optim.min_lr``, "step" or "constant".
        cosine_from_start: The cosine counts from the first step and is entered after the warm-up
            where it then stands (timm's schedule, in SimMIM); else it counts from the warm-up's
            end.
        drop_epochs: "step": at these the rate falls to a tenth.
        precision: "fp32", or "bf16" for autocast.
        checkpoint_epochs: A checkpoint of the backbone is kept after every so many epochs; 0 for
            the end alone.
        state_images: Images between two saved states, at least one step.
    """

    epochs: float = 800.0
    batch_size: int = 4096
    batch_size_per_device: int = 64
    warmup_epochs: float = 40.0
    decay: str = "cosine"
    cosine_from_start: bool = False
    drop_epochs: tuple[float, ...] = ()
    precision: str = "bf16"
    checkpoint_epochs: float = 100.0
    state_images: int = 1_300_000


@dataclass(frozen=True)
class RuntimeConfig:
    """How the work is done; nothing here changes what is computed, but for rounding.

    Attributes:
        compile: Compile the objective with ``torch.compile``.
        activation_checkpointing: Recompute backbone activations in the backward pass.
        read_every: Steps between two readings of the losses from the device.
        picture_every: Steps between two pictures; 0 for one at the end alone.
    """

    compile: bool = False
    activation_checkpointing: bool = False
    read_every: int = 20
    picture_every: int = 0


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
        """Images a device holds at once; gradients accumulate up to ``batch_size``."""

    @property
    def precision(self) -> str:
        """Precision of the forward: "fp32", or "bf16" for autocast."""

    @property
    def state_images(self) -> int:
        """Images between two saved states, at least one step."""
