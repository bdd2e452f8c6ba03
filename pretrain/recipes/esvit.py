"""EsViT (Li et al. 2022, "Efficient Self-supervised Vision Transformers for Representation …")."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial

from backbones.base.sections import Conflict
from backbones.base.values import CountOrZero, NotNegative, Positive
from backbones.training.config import OptimConfig, ScheduleConfig
from pretrain.config import PretrainConfig
from pretrain.distillation_config import DistillationConfig
from pretrain.recipes import dino


@dataclass(frozen=True)
class EsViTConfig(DistillationConfig):
    """EsViT's own section. Defaults are those of its code (main_esvit.py).

    Attributes:
        view_weight: Of the loss of views, once regions join in; the paper has 1.
        region_weight: Of the loss of regions; the paper has 1. 0 trains on views alone, without
            region heads.
        region_start_epoch: Before it, views are trained alone, with the weight 1.
    """

    view_weight: Positive = 0.5
    region_weight: NotNegative = 0.5
    region_start_epoch: CountOrZero = 0

    def conflicts_with(self, schedule: ScheduleConfig) -> Iterator[Conflict]:
        """Yield a start of the loss of regions that is never reached."""
        if self.region_weight and self.region_start_epoch >= schedule.epochs:
            yield Conflict(
                "model.region_start_epoch",
                f"a number below schedule.epochs ({schedule.epochs:g}), or train without regions "
                "with model.region_weight=0",
            )

    def for_one_epoch(self) -> "EsViTConfig":
        """Return the section with regions from the start."""
        return replace(self, region_start_epoch=0)


# microsoft/esvit README, command for Swin-T/W7, and its issue 1.
_MODEL = EsViTConfig(norm_last_layer=False, teacher_temperature=0.07, warmup_teacher_epochs=30)
_OPTIM: OptimConfig = dino.OPTIM
_SCHEDULE = ScheduleConfig(epochs=300, batch_size=512, batch_size_per_device=32, warmup_epochs=10)


def esvit_300ep(
    backbone: str, drop_path: float = 0.1, region_start_epoch: int = 0, batch_size: int = 512
) -> PretrainConfig:
    """Return EsViT with both losses, 300 epochs.

    Source: Li et al. 2022, table 1; microsoft/esvit README. To reproduce (README, linear / k-NN):
    Swin-T 78.0 / 75.7, Swin-S 79.5 / 77.7, Swin-B 80.4 / 78.9; with windows of 14: Swin-T 78.7 /
    77.0, Swin-S 80.8 / 79.1, Swin-B 81.3 / 79.3; ResNet-50 75.7 / 71.3; with 2-2-6-2 blocks and
    windows of 7 (table 4), CvT 78.5 / 76.7 and ViL 77.5 / 74.5. Cost: 16 GPUs for Swin-T, CvT and
    ViL (README); hours are not published.

    ViL attends to all eight neighbouring chunks throughout; its code can also draw one of them at
    random for the first three quarters of a training, which costs less.

    Args:
        backbone: Of the zoo.
        drop_path: 0.1 for Swin-T, 0.2 for Swin-S and Swin-B (its experiments/imagenet/swin).
        region_start_epoch: The README's run names: Swin-B and windows of 14 train on views alone
            for the first 200 epochs, Swin-S with windows of 14 for 180; CvT and ViL for 200.
        batch_size: 512, and 1024 for ResNet-50, CvT and ViL.
    """
    return PretrainConfig(
        protocol="esvit/v1+300ep",
        method="esvit",
        backbone=backbone,
        model=replace(_MODEL, drop_path=drop_path, region_start_epoch=region_start_epoch),
        data=dino.DATA,
        optim=_OPTIM,
        schedule=replace(_SCHEDULE, batch_size=batch_size),
    )


def esvit_views_300ep(
    backbone: str, drop_path: float = 0.1, batch_size: int = 512
) -> PretrainConfig:
    """Return EsViT without the loss of regions, 300 epochs.

    Source: microsoft/esvit README. To reproduce (linear / k-NN): Swin-T 77.0 / 74.2, Swin-S 79.2 /
    76.9, Swin-B 79.6 / 77.7; CvT 77.6 / 74.8, ViL 77.3 / 73.9. Cost: not published. A run with
    ``--init-from`` its objective file adds the loss of regions to it.

    Args:
        backbone: Of the zoo.
        drop_path: As for ``esvit_300ep``.
        batch_size: As for ``esvit_300ep``.
    """
    config = esvit_300ep(backbone, drop_path, batch_size=batch_size)
    model = replace(_MODEL, drop_path=drop_path, region_weight=0.0)
    return replace(config, protocol="esvit/v1+views+300ep", model=model)


def esvit_nano() -> PretrainConfig:
    """Return EsViT for the mini data: a nano Swin, minutes on two CPU cores.

    No published score. It lifts k-NN of the mini pictures from 47.2 to 67.0 (docs/pretraining.md);
    with the paper's colours and blur the same training came to 56.2, with two local crops beside
    the global ones to 25.2. All else is as for DINO's. The teacher's momentum is the paper's: at
    0.95 it follows so fast that centering lags behind, and all images get one and the same
    distribution (its entropy is then that of their mean, 4.1 of 5.5).
    """
    return replace(
        dino.dino_nano(),
        protocol="esvit/v1+nano",
        method="esvit",
        backbone="swin-nano",
        model=EsViTConfig(**asdict(dino.NANO)),
    )


_RECIPES_300EP = {
    "esvit-swin-t": partial(esvit_300ep, "swin-t-eps6"),
    "esvit-swin-s": partial(esvit_300ep, "swin-s-eps6", 0.2),
    "esvit-swin-b": partial(esvit_300ep, "swin-b-eps6", 0.2, 200),
    "esvit-swin-t-w14": partial(esvit_300ep, "swin-t-w14", 0.1, 200),
    "esvit-swin-s-w14": partial(esvit_300ep, "swin-s-w14", 0.2, 180),
    "esvit-swin-b-w14": partial(esvit_300ep, "swin-b-w14", 0.2, 200),
    "esvit-resnet50": partial(esvit_300ep, "resnet50", 0.0, 0, 1024),
    "esvit-cvt-t-w7": partial(esvit_300ep, "cvt-t-w7", 0.1, 200, 1024),
    "esvit-vil-2262": partial(esvit_300ep, "vil-2262", 0.1, 200, 1024),
    "esvit-views-swin-t": partial(esvit_views_300ep, "swin-t-eps6"),
    "esvit-views-swin-s": partial(esvit_views_300ep, "swin-s-eps6", 0.2),
    "esvit-views-swin-b": partial(esvit_views_300ep, "swin-b-eps6", 0.2),
    "esvit-views-cvt-t-w7": partial(esvit_views_300ep, "cvt-t-w7", 0.1, 1024),
    "esvit-views-vil-2262": partial(esvit_views_300ep, "vil-2262", 0.1, 1024),
}

RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    "esvit-nano": esvit_nano,
    **{f"{name}-300ep": recipe for name, recipe in _RECIPES_300EP.items()},
}
