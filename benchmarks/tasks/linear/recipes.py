"""Recipes of the linear probe: the common one and those of papers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from benchmarks.labelled.config import (
    INTERPOLATIONS,
    MINI_DATA,
    CentralViewConfig,
    ExtractionConfig,
    refuse,
)

OPTIMIZERS = ("sgd", "lars")
NORMS = ("none", "batch")
INITS = ("normal", "trunc_normal")
LR_BY = ("epoch", "step")


@dataclass(frozen=True)
class AugmentConfig:
    """What the heads are trained on, beside what they are tested on.

    Attributes:
        views: Different random views of each image, taken in turn, an epoch each, extracted
            as the training gets to them; 0 trains on the central view.
        crop_scale: Range of a view's area as a share of the image's.
        flip: Probability of a horizontal flip.
        interpolation: Filter of the resizing, one of ``INTERPOLATIONS``.
    """

    views: int = 0
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class GridConfig:
    """The heads: one for every combination, all trained in the same pass.

    Attributes:
        features: Kinds of features; those that a backbone does not have are left out.
        norms: In front of the head: "none", or "batch" for BatchNorm without affine parameters.
        base_lrs: Learning rates at 256 images a step.
        holdout: Share of each class's training images that the heads are chosen on and never
            trained on; with a single head, 0 trains on everything.
    """

    features: tuple[str, ...] = ("pooled", "cls4", "mean", "mean4", "stages")
    norms: tuple[str, ...] = NORMS
    base_lrs: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    holdout: float = 0.1


@dataclass(frozen=True)
class HeadConfig:
    """How each head begins and learns.

    Attributes:
        optimizer: "sgd" or "lars" (You et al. 2017; timm's), both with momentum.
        momentum: Of the gradients.
        weight_decay: Of weights and biases.
        init: Of the weights, "normal" or "trunc_normal"; biases begin at 0.
        init_std: Its standard deviation.
        norm_eps: Of the BatchNorm.
    """

    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    init: str = "normal"
    init_std: float = 0.01
    norm_eps: float = 1e-5


@dataclass(frozen=True)
class ProbeScheduleConfig:
    """How long, and the course of the learning rate: a warm-up, then half a cosine to 0.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images a step; the incomplete batch at the end of an epoch is left out.
        warmup_epochs: Over which the rate rises linearly.
        lr_by: The rate changes with each "epoch" or "step".
    """

    epochs: int = 100
    batch_size: int = 1024
    warmup_epochs: float = 0.0
    lr_by: str = "epoch"


@dataclass(frozen=True)
class LinearConfig:
    """Linear classifiers on frozen features."""

    protocol: str = "linear/v1"
    data: CentralViewConfig = field(default_factory=CentralViewConfig)
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    grid: GridConfig = field(default_factory=GridConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    schedule: ProbeScheduleConfig = field(default_factory=ProbeScheduleConfig)

    def resolved(self) -> "LinearConfig":
        """Return the config itself.

        Raises:
            UserError: A value is impossible.
        """
        refuse([*self.data.problems(), *self.extraction.problems(), *self._problems()])
        return self

    def _problems(self) -> list[str]:
        grid, schedule = self.grid, self.schedule
        choices = (
            ("augment.interpolation", (self.augment.interpolation,), INTERPOLATIONS),
            ("grid.norms", grid.norms, NORMS),
            ("head.optimizer", (self.head.optimizer,), OPTIMIZERS),
            ("head.init", (self.head.init,), INITS),
            ("schedule.lr_by", (schedule.lr_by,), LR_BY),
        )
        found = [
            f"{key} must be of {', '.join(known)}"
            for key, given, known in choices
            if not given or not set(given) <= set(known)
        ]
        if not grid.features or not grid.base_lrs or min(grid.base_lrs) <= 0:
            found.append("grid.features and grid.base_lrs (positive) must not be empty")
        if not 0 <= grid.holdout < 1:
            found.append(f"grid.holdout = {grid.holdout:g} must be at least 0 and below 1")
        single = len(grid.features) == len(grid.norms) == len(grid.base_lrs) == 1
        if not grid.holdout and not single:
            found.append("grid.holdout = 0 leaves nothing to choose among several heads on")
        if schedule.epochs < 1 or schedule.batch_size < 2:
            found.append("schedule.epochs must be at least 1 and schedule.batch_size at least 2")
        if not 0 <= schedule.warmup_epochs <= schedule.epochs:
            found.append("schedule.warmup_epochs must be within the epochs")
        return found


def linear() -> LinearConfig:
    """The common protocol, the same for every backbone: the best of a grid of heads.

    Heads are trained on the central view, extracted once, so that a probe costs minutes; what a
    backbone's features need (their kind, a BatchNorm, a rate) is found on held-out training images,
    as facebookresearch/dinov2 ``eval/linear.py`` finds it on its validation set. Papers add random
    crops, which give one or two points more: see the recipes by their names.
    """
    return LinearConfig()


def linear_mini() -> LinearConfig:
    """The common protocol in seconds, on views of 64 pixels, for the embedded mini data."""
    config = linear()
    return replace(
        config,
        protocol="linear-mini/v1",
        data=MINI_DATA,
        schedule=replace(config.schedule, epochs=30, batch_size=128),
    )


def linear_mae() -> LinearConfig:
    """MAE (He et al. 2022, table 10; facebookresearch/mae ``main_linprobe.py``).

    BatchNorm and LARS on the class token; ViT-B reaches 67.8 (its FINETUNE.md). Of the 90 epochs
    each has random crops of its own, hence as many passes through the backbone. One BatchNorm sees
    the whole batch, where the official code has 512 images a GPU.
    """
    return LinearConfig(
        protocol="linear-mae/v1",
        augment=AugmentConfig(views=90, interpolation="bicubic"),
        grid=GridConfig(("cls",), ("batch",), (0.1,), 0.0),
        head=HeadConfig(optimizer="lars", init="trunc_normal", norm_eps=1e-6),
        schedule=ProbeScheduleConfig(90, 16_384, 10.0, "step"),
    )


def linear_dino() -> LinearConfig:
    """DINO's ViT-S (facebookresearch/dino ``eval_linear.py``): the last four class tokens.

    Its README says to tune the rate, which is done on held-out images here. ViT-S/16 reaches 77.0.
    """
    return LinearConfig(
        protocol="linear-dino/v1",
        augment=AugmentConfig(views=100),
        grid=GridConfig(("cls4",), ("none",), (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1), 0.02),
    )


def linear_dino_b() -> LinearConfig:
    """DINO's ViT-B (as ``linear_dino``): class token beside the mean patch. ViT-B/16: 78.2."""
    config = linear_dino()
    grid = replace(config.grid, features=("cls+mean",))
    return replace(config, protocol="linear-dino-b/v1", grid=grid)


def linear_esvit() -> LinearConfig:
    """EsViT (microsoft/esvit ``eval_linear.py``): token means of the last four blocks.

    Swin-T/W7 reaches 78.0 (its README), with teacher weights.
    """
    config = linear_dino()
    grid = replace(config.grid, features=("mean4",))
    return replace(config, protocol="linear-esvit/v1", grid=grid)


def linear_mocov3() -> LinearConfig:
    """MoCo v3 (facebookresearch/moco-v3 ``main_lincls.py``): the class token, a rate of 12.

    ViT-B reaches 76.7 (its README). Its central view is resized bilinearly.
    """
    return LinearConfig(
        protocol="linear-mocov3/v1",
        data=CentralViewConfig(interpolation="bilinear"),
        augment=AugmentConfig(views=90),
        grid=GridConfig(("cls",), ("none",), (3.0,), 0.0),
        schedule=ProbeScheduleConfig(epochs=90),
    )


LINEAR_RECIPES: Mapping[str, Callable[[], LinearConfig]] = {
    "linear": linear,
    "linear-mini": linear_mini,
    "linear-mae": linear_mae,
    "linear-dino": linear_dino,
    "linear-dino-b": linear_dino_b,
    "linear-esvit": linear_esvit,
    "linear-mocov3": linear_mocov3,
}
