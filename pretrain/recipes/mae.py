"""MAE (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners").

The ablations of the paper's table 1 are arguments of ``MAEConfig``: --set model.mask_ratio=.5,
model.decoder_layers=1, model.decoder_dim=128, model.mask_tokens_in_encoder=true,
model.sampling=block, model.target=pca, model.augmentation=crop_color.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from msgspec import Meta

from backbones.base.sections import Conflict
from backbones.base.values import Count, LayersOrNone
from backbones.training.config import OptimConfig, ScheduleConfig
from pretrain.config import PretrainConfig, PretrainDataConfig
from pretrain.masked_config import NANO_SCHEDULE, MaskedConfig


@dataclass(frozen=True)
class MAEConfig(MaskedConfig):
    """MAE's own section. Defaults are those of the paper's final models.

    Attributes:
        decoder_dim: Width of the decoder; table 1b.
        decoder_layers: Number of blocks of the decoder; table 1a.
        decoder_heads: Attention heads of the decoder; a divisor of ``decoder_dim``.
        mask_tokens_in_encoder: The backbone sees all patches, the masked ones as a learned token,
            for 3.3 times the arithmetic; table 1c.
    """

    decoder_dim: Annotated[int, Meta(gt=0, multiple_of=4)] = 512
    decoder_layers: LayersOrNone = 8
    decoder_heads: Count = 16
    mask_tokens_in_encoder: bool = False

    def conflicts(self) -> Iterator[Conflict]:
        """Yield attention heads that do not divide the decoder's width."""
        if self.decoder_dim % self.decoder_heads:
            yield Conflict("decoder_heads", f"a divisor of model.decoder_dim ({self.decoder_dim})")


def mae_vit_b16(epochs: float = 800) -> PretrainConfig:
    """Return MAE for ViT-B/16.

    Source: He et al. 2022, table 8 (settings), table 3 (scores); facebookresearch/mae PRETRAIN.md.
    To reproduce, 1600 epochs: fine-tuned top1 83.6 (83.57 +- .08 over four seeds, FINETUNE.md),
    linear 68.0, ViTDet 51.6 APbox / 45.9 APmask. At 400 and 800 epochs the paper has ViT-L alone;
    mmselfsup's reruns of ViT-B fine-tune to 83.3 at both. Cost: not published; 9.8 G multiply-adds
    an image forward, against ViT-L's 20.
    """
    return PretrainConfig(
        protocol=f"mae/v1+{epochs:g}ep",
        method="mae",
        backbone="vit-b16",
        model=MAEConfig(),
        schedule=ScheduleConfig(epochs=epochs, warmup_epochs=min(40, epochs)),
    )


def mae_vit_l16(epochs: float = 800) -> PretrainConfig:
    """Return MAE for ViT-L/16.

    Source: as ``mae_vit_b16``. To reproduce (table 1d, PRETRAIN.md): 800 epochs, normalised pixels,
    fine-tuned top1 85.4 (TPU) and 85.5 (PyTorch); 1600 epochs 85.9, linear 75.8, ViTDet 55.5 APbox
    / 49.2 APmask. 400 epochs: 85.2 (mmselfsup's rerun). Cost: 800 epochs took about 42 hours on 64
    V100.
    """
    return replace(mae_vit_b16(epochs), backbone="vit-l16")


def mae_vit_h14(epochs: float = 800) -> PretrainConfig:
    """Return MAE for ViT-H/14.

    Source: as ``mae_vit_b16``. To reproduce (table 3), 1600 epochs: fine-tuned top1 86.9, 87.8 at
    448; linear 76.6 (77.2 in PyTorch); ViTDet 56.7 APbox / 50.2 APmask. Other lengths: not
    published. Cost: not published.
    """
    return replace(mae_vit_b16(epochs), backbone="vit-h14")


def mae_nano() -> PretrainConfig:
    """Return MAE for the mini data: ViT nano, minutes on two CPU cores. No published score.

    The decoder keeps about MAE's proportions (two thirds of the width); the rate is higher and the
    warm-up shorter, the steps being few.
    """
    return PretrainConfig(
        protocol="mae/v1+nano",
        method="mae",
        backbone="vit-nano",
        model=MAEConfig(decoder_dim=64, decoder_layers=2, decoder_heads=2),
        data=PretrainDataConfig(img_size=64, crop_scale=(0.2, 1.0)),
        optim=OptimConfig(base_lr=1.6e-2),
        schedule=NANO_SCHEDULE,
    )


_SIZES: dict[str, Callable[[float], PretrainConfig]] = {
    "mae-vit-b16": mae_vit_b16,
    "mae-vit-l16": mae_vit_l16,
    "mae-vit-h14": mae_vit_h14,
}
RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    "mae-nano": mae_nano,
    **{
        f"{name}-{epochs}ep": partial(recipe, epochs)
        for name, recipe in _SIZES.items()
        for epochs in (400, 800, 1600)
    },
}
