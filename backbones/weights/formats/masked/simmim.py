"""SimMIM: Swin and BEiT-like ViT, pretraining and fine-tuning."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="simmim",
    project="SimMIM",
    link="https://github.com/microsoft/SimMIM",
    licence="MIT",
    method="simmim",
    marks=("model.encoder.*", "model.decoder.0.weight", "*encoder.mask_token"),
    steps=("patch_merging", "share_bias_table"),
    norm=IMAGENET,
    archs=("zoo",),
)
