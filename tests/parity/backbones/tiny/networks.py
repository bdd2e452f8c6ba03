"""Plug-in with tiny networks of the shapes that the recorded originals have."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from timm.layers import SwiGLUPacked
from torch import nn

from backbones.features import Backbone
from backbones.spec import BackboneSpec, BuildOptions
from backbones.timm_networks.families import build_timm
from backbones.vit.config import ViTConfig
from backbones.vit.network import VisionTransformer
from backbones.vit.positions_rule import ANTIALIASED

SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 3}


def spec(name: str, build: Any, img_size: int) -> BackboneSpec:
    with torch.device("meta"):
        net: Backbone = build(BuildOptions(img_size=img_size))
    return BackboneSpec(
        name=name,
        build=build,
        layout="plain" if len(net.strides) == 1 else "hierarchical",
        strides=net.strides,
        channels=net.channels,
        num_layers=net.num_layers,
        source="a test",
        fresh_params=("*.num_batches_tracked",),
        img_size=img_size,
    )


def vit(name: str, **arguments: Any) -> BackboneSpec:
    config = ViTConfig(48, 2, 3, **arguments)
    return spec(name, lambda options: VisionTransformer(config, options), 64)


def of_timm(name: str, timm_name: str, img_size: int, **arguments: Any) -> BackboneSpec:
    card = spec(name, partial(build_timm, timm_name, **arguments), img_size)
    return replace(card, position_rule=ANTIALIASED)


SWIN = {
    "embed_dim": 24,
    "depths": (1, 1, 2, 1),
    "num_heads": (1, 2, 4, 8),
    "window_size": 4,
}
CONVNEXT = {"dims": (16, 24, 32, 40), "depths": (1, 1, 2, 1)}
PVT = {"depths": (1, 1, 1, 1), "embed_dims": (16, 24, 40, 48), "num_heads": (1, 2, 5, 6)}
HIERA = {"num_heads": 1, "stages": (1, 1, 2, 1)}
CLIP = {"embed_dim": 128, "depth": 2, "num_heads": 2}
PE = {**SMALL, "attn_pool_num_heads": 3, "ref_feat_shape": (4, 4)}
EVA = {**SMALL, "qkv_fused": True}

SPECS = (
    vit("tiny-vit"),
    vit("tiny-vit-scaled", layer_scale=0.1),
    of_timm("tiny-timm-vit", "vit_base_patch16_224", 64, **SMALL),
    of_timm("tiny-vit-gap", "vit_base_patch16_gap_224", 64, **SMALL),
    of_timm("tiny-beit", "beit_base_patch16_224", 64, **SMALL),
    of_timm(
        "tiny-franca",
        "vit_base_patch14_dinov2",
        56,
        embed_dim=48,
        depth=4,
        num_heads=3,
        mlp_layer=SwiGLUPacked,
        act_layer=nn.SiLU,
        mlp_ratio=2 * 128 / 48,
    ),
    of_timm("tiny-dinov3", "vit_small_patch16_dinov3_qkvb", 64, **SMALL),
    of_timm(
        "tiny-sam",
        "samvit_base_patch16_224",
        96,
        **SMALL,
        window_size=4,
        global_attn_indexes=(1,),
        use_abs_pos=True,
        neck_chans=16,
    ),
    of_timm(
        "tiny-sam2",
        "sam2_hiera_tiny",
        128,
        embed_dim=24,
        stages=(1, 1, 2, 1),
        global_att_blocks=(3,),
        global_pos_size=(7, 7),
    ),
    of_timm("tiny-swin", "swin_tiny_patch4_window7_224", 128, **SWIN),
    of_timm("tiny-swin-v2", "swinv2_tiny_window8_256", 128, **SWIN),
    of_timm("tiny-convnext", "convnext_tiny", 128, **CONVNEXT),
    of_timm("tiny-convnext-v2", "convnextv2_tiny", 128, **CONVNEXT),
    of_timm("tiny-resnet", "resnet50", 64, layers=(1, 1, 1, 1)),
    of_timm("tiny-pvt-v2", "pvt_v2_b0", 64, **PVT),
    of_timm("tiny-deit", "deit_base_distilled_patch16_224", 64, **SMALL),
    of_timm("tiny-dinov2", "vit_base_patch14_dinov2", 56, **SMALL),
    of_timm("tiny-dinov2-reg4", "vit_base_patch14_reg4_dinov2", 56, **SMALL),
    of_timm("tiny-siglip", "vit_base_patch16_siglip_224", 64, **SMALL),
    replace(of_timm("tiny-hiera", "hiera_tiny_224", 224, embed_dim=12, **HIERA), fixed_size=True),
    of_timm("tiny-pe", "vit_pe_core_base_patch16_224", 64, **PE),
    of_timm("tiny-pe-nocls", "vit_pe_core_base_patch16_224", 64, **PE, class_token=False),
    of_timm("tiny-aimv2", "aimv2_large_patch14_224", 56, **SMALL, mlp_ratio=128 / 48),
    of_timm("tiny-eva02", "eva02_tiny_patch14_224", 56, **SMALL),
    of_timm("tiny-eva02-sub-ln", "eva02_base_patch14_224", 56, **SMALL),
    of_timm("tiny-clip", "vit_base_patch32_clip_224", 128, **CLIP),
    of_timm("tiny-clip-quick", "vit_base_patch32_clip_224", 128, **CLIP),
)
