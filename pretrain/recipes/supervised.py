"""Supervised training, the baseline of all pretraining.

The recipe of DeiT (Touvron et al. 2021, table 9, and facebookresearch/deit main.py), which Swin
took over with other rates (Liu et al. 2021, appendix A2; microsoft/Swin-Transformer config.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from backbones.base.values import CountOrZero, NotNegative, Probability
from backbones.training.config import OptimConfig, ScheduleConfig
from pretrain.config import MethodConfig, PretrainConfig, PretrainDataConfig
from pretrain.masked_config import NANO_SCHEDULE


@dataclass(frozen=True)
class SupervisedConfig(MethodConfig):
    """Augmentation in addition to crop and flip, and the loss. Defaults are DeiT's.

    Attributes:
        rand_magnitude: Strength of RandAugment's operations, 0 (none) to 10; timm's "increasing"
            set of 15.
        rand_magnitude_std: Standard deviation of the strength.
        rand_operations: Operations drawn per image; each is applied with probability 0.5.
        erase: Probability of replacing a rectangle by noise.
        mixup: Both parameters of the Beta distribution of mixing shares; 0 for no mixup.
        cutmix: Both parameters of the Beta distribution of the pasted rectangle's share; 0 for no
            cutmix. With mixup too, each image draws one of the two.
        label_smoothing: Share of the label that goes to all classes alike.
        drop_path: Stochastic depth of the last block.
    """

    rand_magnitude: CountOrZero = 9
    rand_magnitude_std: NotNegative = 0.5
    rand_operations: CountOrZero = 2
    erase: Probability = 0.25
    mixup: NotNegative = 0.8
    cutmix: NotNegative = 1.0
    label_smoothing: Probability = 0.1
    drop_path: Probability = 0.1

    def mixes(self) -> bool:
        """Return whether images are mixed with others of their micro-batch."""
        return bool(self.mixup or self.cutmix)


def supervised_vit_b16() -> PretrainConfig:
    """Return DeiT's training of ViT-B/16, 300 epochs.

    Source: Touvron et al. 2021, table 9. To reproduce (tables 5 and 8, DeiT-B without
    distillation): top1 81.8. Not done here: DeiT draws every image three times a batch (repeated
    augmentation), which its table 8 finds to matter. Cost: not published for this variant.
    """
    return PretrainConfig(
        protocol="supervised/v1+300ep",
        method="supervised",
        backbone="vit-b16",
        model=SupervisedConfig(),
        data=PretrainDataConfig(crop_scale=(0.08, 1.0)),
        optim=OptimConfig(
            base_lr=5e-4,
            reference_batch_size=512,
            warmup_base_lr=5e-7,
            min_lr=1e-5,
            betas=(0.9, 0.999),
        ),
        schedule=ScheduleConfig(
            epochs=300, batch_size=1024, warmup_epochs=5, cosine_from_start=True
        ),
    )


def supervised_vit_s16() -> PretrainConfig:
    """Return DeiT's training of ViT-S/16, 300 epochs.

    Source: as ``supervised_vit_b16``. To reproduce (table 5, DeiT-S): top1 79.8, with repeated
    augmentation. Cost: not published for this variant.
    """
    return replace(supervised_vit_b16(), backbone="vit-s16")


def supervised_swin_t() -> PretrainConfig:
    """Return Swin-T's training, 300 epochs.

    Source: Liu et al. 2021, section 4.1 and appendix A2; microsoft/Swin-Transformer config.py. To
    reproduce (table 1a): top1 81.3. Cost: not published.
    """
    config = supervised_vit_b16()
    return replace(
        config,
        backbone="swin-t",
        model=SupervisedConfig(drop_path=0.2),
        optim=replace(config.optim, min_lr=5e-6, scale_min_lr=True, clip="global", clip_norm=5.0),
        schedule=replace(config.schedule, warmup_epochs=20),
    )


def supervised_nano() -> PretrainConfig:
    """Return supervised training for the mini data: ViT nano, minutes on two CPU cores.

    No published score. Crop and flip alone: in so few epochs, crops from a fifth of the picture and
    RandAugment leave a ViT at a training top1 of 63, against 86.
    """
    return PretrainConfig(
        protocol="supervised/v1+nano",
        method="supervised",
        backbone="vit-nano",
        model=SupervisedConfig(rand_magnitude=0, erase=0.0, mixup=0.0, cutmix=0.0, drop_path=0.0),
        data=PretrainDataConfig(img_size=64, crop_scale=(0.4, 1.0)),
        optim=OptimConfig(base_lr=1.6e-2, betas=(0.9, 0.999)),
        schedule=NANO_SCHEDULE,
    )


RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    "supervised-nano": supervised_nano,
    "supervised-vit-s16-300ep": supervised_vit_s16,
    "supervised-vit-b16-300ep": supervised_vit_b16,
    "supervised-swin-t-300ep": supervised_swin_t,
}
