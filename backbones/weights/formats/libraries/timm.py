"""timm's names, which trainers of every kind keep: timm's own files, Lightning, FSDP and others."""

from backbones.vit.positions_rule import ANTIALIASED
from backbones.weights.layout import Format

FORMAT = Format(
    name="timm",
    project="timm and trainers of its networks",
    link="https://github.com/huggingface/pytorch-image-models",
    steps=("conv_patches", "timm_repair"),
    drops=(("pre_logits.*", "layer in front of an old classifier"),),
    positions=ANTIALIASED,
)
