"""Recipes of the linear probe: the common one and those of papers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from msgspec import Meta

from backbones.base.sections import Conflict, Recipe, Section
from backbones.base.values import (
    Below1,
    Count,
    CountOrZero,
    Name,
    NotNegative,
    Positive,
    Probability,
    ShareRange,
)
from benchmarks.labelled.config import (
    MINI_DATA,
    CentralViewConfig,
    ExtractionConfig,
    FeatureKind,
    Interpolation,
)

Norm = Literal["none", "batch"]


@dataclass(frozen=True)
class AugmentConfig(Section):
    """What the heads are trained on; they are tested on the central view.

    Attributes:
        views: Different random views of each image, taken in turn, an epoch each, extracted
            as the training gets to them; 0 trains on the central view.
        crop_scale: Range of a view's area as a share of the image's.
        flip: Probability of a horizontal flip.
        interpolation: Filter of the resizing.
    """

    views: CountOrZero = 0
    crop_scale: ShareRange = (0.08, 1.0)
    flip: Probability = 0.5
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True)
class GridConfig(Section):
    """The heads: one for every combination, all trained in the same pass.

    Attributes:
        features: Kinds of features; those that a backbone does not have are left out.
        norms: In front of the head: "none", or "batch" for BatchNorm without affine parameters.
        base_lrs: Learning rates at 256 images a step.
        holdout: Share of each class's training images that the heads are chosen on and never
            trained on; with a single head, 0 trains on everything.
    """

    features: Annotated[tuple[FeatureKind, ...], Meta(min_length=1)] = (
        "pooled", "cls4", "mean", "mean4", "stages",
    )  # fmt: skip
    norms: Annotated[tuple[Norm, ...], Meta(min_length=1)] = ("none", "batch")
    base_lrs: Annotated[tuple[Positive, ...], Meta(min_length=1)] = (
        0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0,
    )  # fmt: skip
    holdout: Below1 = 0.1


@dataclass(frozen=True)
class HeadConfig(Section):
    """How each head begins and learns.

    Attributes:
        optimizer: "sgd" or "lars" (``backbones.training.lars``), both with momentum.
        momentum: Momentum of the gradients.
        weight_decay: Weight decay of weights, with SGD of biases as well.
        init: Distribution that draws the weights; biases start at 0.
        init_std: Standard deviation of ``init``.
        norm_eps: Epsilon of the BatchNorm.
    """

    optimizer: Literal["sgd", "lars"] = "sgd"
    momentum: Below1 = 0.9
    weight_decay: NotNegative = 0.0
    init: Literal["normal", "trunc_normal"] = "normal"
    init_std: NotNegative = 0.01
    norm_eps: NotNegative = 1e-5


@dataclass(frozen=True)
class ProbeScheduleConfig(Section):
    """How long, and the course of the learning rate: a warm-up, then half a cosine to 0.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images a step; the incomplete batch at the end of an epoch is left out.
        warmup_epochs: Epochs over which the learning rate rises linearly.
        lr_by: The rate changes with each "epoch" or "step".
    """

    epochs: Count = 100
    batch_size: Annotated[int, Meta(ge=2)] = 1024
    warmup_epochs: NotNegative = 0.0
    lr_by: Literal["epoch", "step"] = "epoch"


@dataclass(frozen=True)
class LinearConfig(Recipe):
    """Linear classifiers on frozen features."""

    protocol: Name = "linear/v1"
    data: CentralViewConfig = field(default_factory=CentralViewConfig)
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    grid: GridConfig = field(default_factory=GridConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    schedule: ProbeScheduleConfig = field(default_factory=ProbeScheduleConfig)

    def conflicts(self) -> Iterator[Conflict]:
        """Yield a grid that nothing is left to choose from, and a warmup that is too long."""
        grid, schedule = self.grid, self.schedule
        single = len(grid.features) == len(grid.norms) == len(grid.base_lrs) == 1
        if not grid.holdout and not single:
            yield Conflict("grid.holdout", "a number above 0 to choose among several heads")
        if schedule.warmup_epochs > schedule.epochs:
            yield Conflict(
                "schedule.warmup_epochs", f"a number of at most schedule.epochs ({schedule.epochs})"
            )


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
