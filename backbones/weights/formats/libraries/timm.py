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
    # torchvision's ResNets have timm's names; the zoo has ResNet-50 only.
    archs=(
        "zoo",
        *(f"timm:resnet{depth}" for depth in (18, 34, 101, 152)),
        "timm:resnext50_32x4d",
        "timm:resnext101_32x8d",
        "timm:resnext101_64x4d",
        "timm:wide_resnet50_2",
        "timm:wide_resnet101_2",
    ),
)
