"""Swin v2's classification files."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="swinv2",
    project="Swin Transformer v2",
    link="https://github.com/microsoft/Swin-Transformer",
    licence="MIT",
    method="supervised",
    # One more than of Swin, whose marks these files bear, too.
    marks=(
        "*layers.0.blocks.0.attn.cpb_mlp.0.weight",
        "*layers.0.blocks.0.attn.logit_scale",
        "*layers.0.downsample.reduction.weight",
    ),
    steps=("patch_merging",),
    norm=IMAGENET,
    archs=("timm:swinv2_*",),
)
