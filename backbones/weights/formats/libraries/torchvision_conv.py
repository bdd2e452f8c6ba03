"""torchvision's EfficientNet, EfficientNet v2 and RegNet."""

from backbones.weights.layout import IMAGENET, Format

_LINK = "https://github.com/pytorch/vision"
_LICENCE = "BSD-3-Clause"

# torchvision numbers the layers of a block; 0 and 1 inside them are convolution and norm.
_STEM = (
    (r"^features\.0\.0\.", "conv_stem."),
    (r"^features\.0\.1\.", "bn1."),
    (r"^features\.\d\.0\.(?=\w+$)", "conv_head."),
    (r"^features\.\d\.1\.(?=\w+$)", "bn2."),
)
# Expansion, depthwise convolution, squeeze and excitation, projection.
_INVERTED = (
    (r"\.block\.0\.0\.", ".conv_pw."),
    (r"\.block\.0\.1\.", ".bn1."),
    (r"\.block\.1\.0\.", ".conv_dw."),
    (r"\.block\.1\.1\.", ".bn2."),
    (r"\.block\.2\.fc1\.", ".se.conv_reduce."),
    (r"\.block\.2\.fc2\.", ".se.conv_expand."),
    (r"\.block\.3\.0\.", ".conv_pwl."),
    (r"\.block\.3\.1\.", ".bn3."),
)
_STAGES = tuple((rf"^features\.{i}\.(\d+)\.", rf"blocks.{i - 1}.\1.") for i in range(1, 9))
# The first stage of EfficientNet expands nothing.
_FIRST_STAGE = (
    (r"^features\.1\.(\d+)\.block\.0\.0\.", r"features.1.\1.conv_dw."),
    (r"^features\.1\.(\d+)\.block\.0\.1\.", r"features.1.\1.bn1."),
    (r"^features\.1\.(\d+)\.block\.1\.fc1\.", r"features.1.\1.se.conv_reduce."),
    (r"^features\.1\.(\d+)\.block\.1\.fc2\.", r"features.1.\1.se.conv_expand."),
    (r"^features\.1\.(\d+)\.block\.2\.0\.", r"features.1.\1.conv_pw."),
    (r"^features\.1\.(\d+)\.block\.2\.1\.", r"features.1.\1.bn2."),
)
# The first stage of v2 is convolutions; the next two join expansion and depthwise convolution.
_FUSED_STAGES = (
    (r"^features\.1\.(\d+)\.block\.0\.0\.", r"features.1.\1.conv."),
    (r"^features\.1\.(\d+)\.block\.0\.1\.", r"features.1.\1.bn1."),
    (r"^features\.([23])\.(\d+)\.block\.0\.0\.", r"features.\1.\2.conv_exp."),
    (r"^features\.([23])\.(\d+)\.block\.0\.1\.", r"features.\1.\2.bn1."),
    (r"^features\.([23])\.(\d+)\.block\.1\.0\.", r"features.\1.\2.conv_pwl."),
    (r"^features\.([23])\.(\d+)\.block\.1\.1\.", r"features.\1.\2.bn2."),
)
_RENAMES = (*_STEM, *_FIRST_STAGE, *_INVERTED, *_STAGES)

EFFICIENTNET = Format(
    name="torchvision-efficientnet",
    project="torchvision EfficientNet B0 to B4",
    link=_LINK,
    licence=_LICENCE,
    method="supervised",
    anchors=("features.0.0.weight",),
    marks=("*features.1.0.block.1.fc1.weight", "*features.8.0.weight"),
    renames=_RENAMES,
    norm=IMAGENET,
    archs=tuple(f"timm:efficientnet_b{size}" for size in range(5)),
)
# B5 to B7 have three and more blocks in their first stage, and another epsilon in all norms
# (torchvision models/efficientnet.py: norm_layer=partial(nn.BatchNorm2d, eps=0.001)).
EFFICIENTNET_LARGE = Format(
    name="torchvision-efficientnet-large",
    project="torchvision EfficientNet B5 to B7",
    link=_LINK,
    licence=_LICENCE,
    method="supervised",
    anchors=("features.0.0.weight",),
    marks=(*EFFICIENTNET.marks, "*features.1.2.block.1.fc1.weight"),
    renames=_RENAMES,
    # B5's weights are of lukemelas's repository, in its normalisation; the same values.
    norm=IMAGENET,
    batch_norm_eps=1e-3,
    archs=tuple(f"timm:efficientnet_b{size}" for size in range(5, 8)),
)
EFFICIENTNET_V2 = Format(
    name="torchvision-efficientnetv2",
    project="torchvision EfficientNet v2",
    link=_LINK,
    licence=_LICENCE,
    method="supervised",
    anchors=("features.0.0.weight",),
    marks=("*features.2.0.block.1.0.weight", "*features.4.0.block.2.fc1.weight"),
    renames=(*_STEM, *_FUSED_STAGES, *_INVERTED, *_STAGES),
    # The large one is trained and evaluated at 0.5 (EfficientNet_V2_L_Weights), see below.
    norm=IMAGENET,
    batch_norm_eps=1e-3,
    archs=("timm:efficientnetv2_s", "timm:efficientnetv2_m"),
)
EFFICIENTNET_V2_L = Format(
    name="torchvision-efficientnetv2-l",
    project="torchvision EfficientNet v2, large",
    link=_LINK,
    licence=_LICENCE,
    method="supervised",
    anchors=("features.0.0.weight",),
    # Only the large one has seven blocks in its second stage.
    marks=(*EFFICIENTNET_V2.marks, "*features.2.6.block.1.0.weight"),
    renames=EFFICIENTNET_V2.renames,
    norm=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    batch_norm_eps=1e-3,
    archs=("timm:efficientnetv2_l",),
)
REGNET = Format(
    name="torchvision-regnet",
    project="torchvision RegNet",
    link=_LINK,
    licence=_LICENCE,
    method="supervised",
    anchors=("stem.0.weight",),
    marks=("*stem.1.running_mean", "*trunk_output.block1.block1-0.f.a.0.weight"),
    steps=("regnet_names",),
    norm=IMAGENET,
    archs=("timm:regnet[xy]_*_tv", "timm:regnet[xy]_*"),
)
