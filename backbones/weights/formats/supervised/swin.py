"""Swin's classification files, and Swin in other projects that keep its names."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="swin",
    project="Swin Transformer",
    link="https://github.com/microsoft/Swin-Transformer",
    licence="MIT",
    method="supervised",
    marks=("*layers.0.downsample.reduction.weight", "*layers.0.blocks.0.attn.qkv.weight"),
    steps=("patch_merging",),
    drops=(("norm[0123].*", "norms of a detector's feature maps"),),
    norm=IMAGENET,
    archs=("zoo",),
)
