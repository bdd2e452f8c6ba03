"""SimMIM (Xie et al. 2022, "SimMIM: A Simple Framework for Masked Image Modeling")."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from backbones.base.sections import Conflict
from backbones.base.values import Below1, Count, Inside01
from backbones.training.config import OptimConfig, RuntimeConfig, ScheduleConfig
from pretrain.config import MethodConfig, PretrainConfig, PretrainDataConfig, undivided_image
from pretrain.masked_config import NANO_SCHEDULE


@dataclass(frozen=True)
class SimMIMConfig(MethodConfig):
    """SimMIM's own section. Defaults are the paper's.

    Attributes:
        mask_ratio: Share of the squares that is masked, rounded up.
        square_size: Side in pixels of the squares; a multiple of the backbone's first stride.
        drop_path: Stochastic depth of the backbone.
        share_bias_tables: A BEiT backbone trains one table of relative positions for all blocks.
    """

    mask_ratio: Inside01 = 0.6
    square_size: Count = 32
    drop_path: Below1 = 0.0
    share_bias_tables: bool = True

    def conflicts_on(self, img_size: int, strides: Sequence[int]) -> Iterator[Conflict]:
        """Yield images that do not divide into the backbone's coarsest cells."""
        yield from undivided_image(img_size, strides[-1])


# Rates are microsoft/SimMIM's configs, for 512 images a step, and end scaled like the others.
_OPTIM = OptimConfig(
    base_lr=1e-4,
    reference_batch_size=512,
    warmup_base_lr=5e-7,
    betas=(0.9, 0.999),
    clip="global",
    clip_norm=5.0,
)


def simmim_swin_b_800ep() -> PretrainConfig:
    """Return SimMIM for Swin-B at 192 with windows of 6, 800 epochs.

    Source: Xie et al. 2022, section 4.2; microsoft/SimMIM configs/swin_base__800ep. To reproduce
    (README): fine-tuned top1 84.0 at 224 with windows of 7. Cost: not published.
    """
    return PretrainConfig(
        protocol="simmim/v1+800ep",
        method="simmim",
        backbone="swin-b-w6",
        model=SimMIMConfig(),
        data=PretrainDataConfig(img_size=192, crop_scale=(0.67, 1.0)),
        optim=_OPTIM,
        schedule=ScheduleConfig(
            epochs=800,
            batch_size=2048,
            batch_size_per_device=128,
            warmup_epochs=10,
            decay="step",
            drop_epochs=(700,),
        ),
    )


def simmim_swin_b_100ep() -> PretrainConfig:
    """Return SimMIM for Swin-B at 192 with windows of 6, 100 epochs.

    Source: microsoft/SimMIM configs/swin_base__100ep. To reproduce (README): fine-tuned top1 82.8
    at 192, 83.5 at 224. Cost: not published.
    """
    config = simmim_swin_b_800ep()
    return replace(
        config,
        protocol="simmim/v1+100ep",
        optim=replace(_OPTIM, base_lr=2e-4, warmup_base_lr=1e-6, min_lr=1e-5, scale_min_lr=True),
        schedule=replace(
            config.schedule, epochs=100, decay="cosine", drop_epochs=(), cosine_from_start=True
        ),
    )


def simmim_vit_b16_800ep() -> PretrainConfig:
    """Return SimMIM for BEiT's ViT-B/16, 800 epochs.

    Source: microsoft/SimMIM configs/vit_base__800ep. To reproduce (README): fine-tuned top1 83.8
    (issue 20: 83.6); linear probe of the 8th block's mean 56.7. Cost: not published.
    """
    config = simmim_swin_b_800ep()
    return replace(
        config,
        backbone="beit-b16",
        model=SimMIMConfig(drop_path=0.1),
        data=replace(config.data, img_size=224),
    )


def simmim_nano(backbone: str = "swin-nano") -> PretrainConfig:
    """Return SimMIM for the mini data: a nano backbone, minutes on two CPU cores.

    No published score. Squares are a quarter of the crop's side, so that there are enough to draw
    from.
    """
    return PretrainConfig(
        protocol="simmim/v1+nano",
        method="simmim",
        backbone=backbone,
        model=SimMIMConfig(square_size=16),
        data=PretrainDataConfig(img_size=64, crop_scale=(0.67, 1.0)),
        optim=replace(_OPTIM, base_lr=1.6e-2, warmup_base_lr=0.0),
        schedule=NANO_SCHEDULE,
        runtime=RuntimeConfig(),
    )


RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    "simmim-nano": simmim_nano,
    "simmim-vit-nano": partial(simmim_nano, "vit-nano"),
    "simmim-swin-b-800ep": simmim_swin_b_800ep,
    "simmim-swin-b-100ep": simmim_swin_b_100ep,
    "simmim-vit-b16-800ep": simmim_vit_b16_800ep,
}
