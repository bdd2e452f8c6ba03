"""lukemelas/EfficientNet-PyTorch, and the files of ml-illustrated's Lite networks."""

from backbones.weights.layout import Format

FORMAT = Format(
    name="efficientnet",
    project="EfficientNet-PyTorch",
    link="https://github.com/lukemelas/EfficientNet-PyTorch",
    licence="Apache-2.0",
    method="supervised",
    anchors=("_conv_stem.weight",),
    marks=("*_blocks.0._depthwise_conv.weight",),
    steps=("efficientnet_names",),
)
