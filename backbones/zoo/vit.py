"""Plain ViTs (Dosovitskiy et al. 2021; sizes Ti and S from DeiT, Touvron et al. 2021)."""

from functools import partial
from typing import TYPE_CHECKING

from backbones.spec import BackboneSpec, BuildOptions
from backbones.vit.config import ViTConfig

if TYPE_CHECKING:
    from backbones.features import Backbone


def _build(config: ViTConfig, options: BuildOptions) -> "Backbone":
    from backbones.vit.network import VisionTransformer

    return VisionTransformer(config, options)


def _vit(name: str, config: ViTConfig, source: str) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        build=partial(_build, config),
        layout="plain",
        strides=(config.patch_size,),
        channels=(config.embed_dim,),
        num_layers=config.num_layers,
        source=source,
        # ViTDet's decomposed relative positions, which no pretraining knows.
        fresh_params=("blocks.*.attn.rel_pos_[hw]",),
        windows=True,
        position_table=config.positions != "none",
    )


_VIT = "Dosovitskiy et al. 2021, table 1"
_DEIT = "Touvron et al. 2021, table 1"
_DINO = "Caron et al. 2021, table 1"

SPECS = (
    _vit(
        "vit-nano",
        # Pooled as its Swin twin is: a loss on the cls token alone teaches the last block nothing
        # about patches, and that block's patches are what a detector sees.
        ViTConfig(96, 4, 3, patch_size=8, positions="sincos", pooling="mean"),
        "for two CPU cores",
    ),
    _vit("vit-ti16", ViTConfig(192, 12, 3), _DEIT),
    _vit("vit-s16", ViTConfig(384, 12, 6), _DEIT),
    _vit("vit-s8", ViTConfig(384, 12, 6, patch_size=8), _DINO),
    _vit("vit-s16-h12", ViTConfig(384, 12, 12), "Chen et al. 2021 (MoCo v3), section 5: 12 heads"),
    _vit("vit-b16", ViTConfig(768, 12, 12), _VIT),
    _vit("vit-b8", ViTConfig(768, 12, 12, patch_size=8), _DINO),
    _vit("vit-b14", ViTConfig(768, 12, 12, patch_size=14), "ViT-B with the patches of ViT-H/14"),
    _vit("vit-l16", ViTConfig(1024, 24, 16), _VIT),
    _vit("vit-h14", ViTConfig(1280, 32, 16, patch_size=14), _VIT),
    _vit(
        "cae-b16",
        ViTConfig(768, 12, 12, layer_scale=0.1),
        "Chen et al. 2022 (CAE); lxtGH/CAE scripts/cae_base_800e.sh",
    ),
    _vit(
        "cae-l16",
        ViTConfig(1024, 24, 16, layer_scale=1e-5),
        "Chen et al. 2022 (CAE); lxtGH/CAE scripts/cae_large_1600e.sh",
    ),
    _vit(
        "lomar-vit-b16",
        # No absolute positions, and a cls token that has no loss (its models_lomar.py).
        ViTConfig(768, 12, 12, positions="none", irpe=True, pooling="mean"),
        "Chen et al. 2022, section 3; junchen14/LoMaR",
    ),
)
