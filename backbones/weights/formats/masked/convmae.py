"""ConvMAE, whose network no backbone here builds."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="convmae",
    project="ConvMAE",
    link="https://github.com/Alpha-VL/ConvMAE",
    licence="CC-BY-NC-4.0",
    method="convmae",
    marks=("*patch_embed4.weight", "*blocks1.0.attn.weight", "*blocks3.0.attn.qkv.weight"),
    norm=IMAGENET,
    refused=(
        "is of ConvMAE, whose network has two convolutional stages in front of a ViT "
        "(models_convvit.py); no backbone here builds it"
    ),
)
