"""Swin Transformers (Liu et al. 2021), through timm."""

from functools import partial
from typing import TYPE_CHECKING

from backbones.spec import BackboneSpec, BuildOptions

if TYPE_CHECKING:
    from backbones.features import Backbone

# Width of the first stage, depths and heads: Swin, section 3.3.
_SIZES = {
    "nano": (32, (1, 1, 2, 1), (1, 2, 4, 8)),
    "t": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "s": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "b": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
}


def _build(size: str, window: int, eps: float, options: BuildOptions) -> "Backbone":
    from torch import nn

    from backbones.timm_networks.families import build_timm

    embed_dim, depths, num_heads = _SIZES[size]
    return build_timm(
        "swin_tiny_patch4_window7_224",
        options,
        embed_dim=embed_dim,
        depths=depths,
        num_heads=num_heads,
        window_size=window,
        norm_layer=partial(nn.LayerNorm, eps=eps),
    )


def _swin(name: str, size: str, window: int, eps: float = 1e-5) -> BackboneSpec:
    width, depths, _ = _SIZES[size]
    return BackboneSpec(
        name=name,
        build=partial(_build, size, window, eps),
        layout="hierarchical",
        strides=(4, 8, 16, 32),
        channels=(width, 2 * width, 4 * width, 8 * width),
        num_layers=sum(depths),
        swin_stages=tuple((window, depth) for depth in depths),
        source="Liu et al. 2021, section 3.3; microsoft/Swin-Transformer",
    )


# EsViT builds Swin with eps 1e-6 where everyone else has 1e-5 (its models/swin_transformer.py); the
# names with w14 and eps6 are its networks. Window 14 exists there alone, window 6 in SimMIM's
# pretraining at 192 pixels.
SPECS = (
    _swin("swin-nano", "nano", window=4),
    _swin("swin-t", "t", window=7),
    _swin("swin-s", "s", window=7),
    _swin("swin-b", "b", window=7),
    _swin("swin-b-w6", "b", window=6),
    _swin("swin-t-eps6", "t", window=7, eps=1e-6),
    _swin("swin-s-eps6", "s", window=7, eps=1e-6),
    _swin("swin-b-eps6", "b", window=7, eps=1e-6),
    _swin("swin-t-w14", "t", window=14, eps=1e-6),
    _swin("swin-s-w14", "s", window=14, eps=1e-6),
    _swin("swin-b-w14", "b", window=14, eps=1e-6),
)
