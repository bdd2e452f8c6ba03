"""Hiera: fine-tuned files, and pretraining files of its MAE."""

from backbones.weights.layout import IMAGENET, Format

_LINK = "https://github.com/facebookresearch/hiera"
_LICENCE = "CC-BY-NC-4.0"  # LICENSE.models

FINE_TUNED = Format(
    name="hiera",
    project="Hiera",
    link=_LINK,
    licence=_LICENCE,
    method="supervised",
    marks=("*blocks.0.attn.qkv.weight", "*head.projection.weight", "*pos_embed"),
    files=("hiera_*",),
    renames=((r"^norm\.", "head.norm."),),
    drops=(("head.projection.*", "classifier"),),
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("timm:hiera_*_224",),
)
PRETRAINED = Format(
    name="hiera-mae",
    project="Hiera, pretraining files",
    link=_LINK,
    licence=_LICENCE,
    method="mae",
    marks=("*encoder_norm.weight", "*decoder_embed.weight", "*multi_scale_fusion_heads.0.weight"),
    files=("mae_hiera_*",),
    renames=((r"^encoder_norm\.", "head.norm."),),
    drops=(
        ("decoder_*", "MAE's decoder"),
        ("multi_scale_fusion_heads.*", "join the stages for the decoder"),
    ),
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("timm:hiera_*_224",),
)
