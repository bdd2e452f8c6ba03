"""ResNet with bottleneck or basic blocks."""

from backbones.weights.formats.transformers import LINK
from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="hf-resnet",
    project="transformers ResNet",
    link=LINK,
    licence="Apache-2.0",
    method="supervised",
    anchors=("embedder.embedder.convolution.weight",),
    renames=(
        (r"^embedder\.embedder\.convolution\.", "conv1."),
        (r"^embedder\.embedder\.normalization\.", "bn1."),
        *((rf"^encoder\.stages\.{i}\.layers\.", f"layer{i + 1}.") for i in range(4)),
        (r"\.shortcut\.convolution\.", ".downsample.0."),
        (r"\.shortcut\.normalization\.", ".downsample.1."),
        *((rf"\.layer\.{i}\.convolution\.", f".conv{i + 1}.") for i in range(3)),
        *((rf"\.layer\.{i}\.normalization\.", f".bn{i + 1}.") for i in range(3)),
    ),
    norm=IMAGENET,
    activation="relu",
    archs=("zoo", "timm:resnet18", "timm:resnet34", "timm:resnet101", "timm:resnet152"),
    model_types=("resnet",),
)
