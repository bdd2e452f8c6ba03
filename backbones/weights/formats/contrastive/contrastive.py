"""Contrastive and clustering methods on ResNet-50, as their PyTorch code saves them.

All of them are evaluated on ImageNet's mean and standard deviation. Each keeps the network under a
prefix of its own, next to a head, a queue or prototypes.
"""

from backbones.weights.layout import IMAGENET, Format

_ARCHS = ("resnet50",)

MOCO_V2 = Format(
    name="mocov2",
    project="MoCo v1 and v2",
    link="https://github.com/facebookresearch/moco",
    licence="CC-BY-NC-4.0",
    method="mocov2",
    marks=("*encoder_q.layer1.0.conv1.weight", "*encoder_k.layer1.0.conv1.weight"),
    branches=(("student", r"encoder_q\."), ("teacher", r"encoder_k\.")),
    norm=IMAGENET,
    archs=_ARCHS,
)
SIMSIAM = Format(
    name="simsiam",
    project="SimSiam",
    link="https://github.com/facebookresearch/simsiam",
    licence="CC-BY-NC-4.0",
    method="simsiam",
    marks=("*module.encoder.layer1.*", "*module.predictor.*"),
    norm=IMAGENET,
    archs=_ARCHS,
)
SWAV = Format(
    name="swav",
    project="SwAV and DeepCluster v2",
    link="https://github.com/facebookresearch/swav",
    licence="CC-BY-NC-4.0",
    method="swav",
    marks=("*projection_head.*", "*prototypes*.weight", "*layer1.0.conv1.weight"),
    drops=(("projection_head.*", "projection head"), ("prototypes*", "prototypes")),
    norm=IMAGENET,
    archs=_ARCHS,
)
DENSECL = Format(
    name="densecl",
    project="DenseCL and OpenSelfSup",
    link="https://github.com/WXinlong/DenseCL",
    licence="GPL-3.0",
    method="densecl",
    marks=("*backbone.layer1.0.conv1.weight", "*neck.*", "*encoder_q.*"),
    norm=IMAGENET,
    archs=_ARCHS,
)
BYOL = Format(
    name="byol",
    project="BYOL, ports to PyTorch",
    link="https://github.com/google-deepmind/deepmind-research/tree/master/byol",
    licence="Apache-2.0",
    method="byol",
    marks=("*online_*.layer1.0.conv1.weight", "*target_*.layer1.0.conv1.weight"),
    branches=(("student", r"online_\w+\."), ("teacher", r"target_\w+\.")),
    norm=IMAGENET,
    archs=_ARCHS,
)
VISSL = Format(
    name="vissl",
    project="VISSL",
    link="https://github.com/facebookresearch/vissl",
    licence="MIT",
    marks=("*trunk._feature_blocks.layer1.*",),
    norm=IMAGENET,
    archs=_ARCHS,
)
BARLOW_TWINS = Format(
    name="barlowtwins",
    project="Barlow Twins and VICReg",
    link="https://github.com/facebookresearch/barlowtwins",
    licence="MIT",
    method="barlowtwins",
    marks=("model.module.backbone.layer1.*", "model.module.projector.*"),
    drops=(("projector.*", "projection head"),),
    norm=IMAGENET,
    archs=_ARCHS,
)
SIMCLR = Format(
    name="simclr",
    project="SimCLR v1 and v2, ports to PyTorch with torchvision's names",
    link="https://github.com/google-research/simclr",
    licence="Apache-2.0",
    method="simclr",
    files=("simclr*", "*simclr*", "r50_1x_sk0*"),
    # SimCLR scales images to 0 … 1 and does not normalise them.
    norm=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    archs=_ARCHS,
)
MOBY = Format(
    name="moby",
    project="MoBY",
    link="https://github.com/SwinTransformer/Transformer-SSL",
    licence="MIT",
    method="moby",
    marks=("*encoder_k.layers.0.blocks.0.*", "*projector.*"),
    steps=("patch_merging",),
    # Its linear evaluation loads "encoder.", the network that gradients train.
    branches=(("student", r"(^|\.)encoder\."), ("teacher", r"(^|\.)encoder_k\.")),
    norm=IMAGENET,
    archs=("zoo",),
)
