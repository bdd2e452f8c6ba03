"""Franca's ViTs: DINOv2's with SwiGLU in all sizes (Venkataramanan et al. 2025)."""

from functools import partial
from typing import TYPE_CHECKING

from backbones.spec import BackboneSpec, BuildOptions
from backbones.vit.positions_rule import ANTIALIASED

if TYPE_CHECKING:
    from backbones.features import Backbone


def _build(width: int, depth: int, options: BuildOptions) -> "Backbone":
    from backbones.timm_networks.families import build_timm

    # franca/layers/swiglu_ffn.py: two thirds of four times the width, up to a multiple of 8; the
    # first layer of an MLP has that many channels twice.
    hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8
    sizes = {"embed_dim": width, "depth": depth, "num_heads": width // 64}
    return build_timm("vit_giant_patch14_dinov2", options, **sizes, mlp_ratio=2 * hidden / width)


def _franca(name: str, width: int, depth: int, img_size: int) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        build=partial(_build, width, depth),
        layout="plain",
        strides=(14,),
        channels=(width,),
        num_layers=depth,
        source="Venkataramanan et al. 2025; valeoai/Franca franca/hub/backbones.py",
        fresh_params=("blocks.*.attn.rel_pos_[hw]",),
        img_size=img_size,
        windows=True,
        position_table=True,
        position_rule=ANTIALIASED,
    )


SPECS = (
    _franca("franca-b14", 768, 12, 518),
    _franca("franca-l14", 1024, 24, 224),
)
