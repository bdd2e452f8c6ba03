"""I-JEPA and MSN: the target encoder is the teacher, which both evaluate."""

from backbones.weights.layout import IMAGENET, Format

_BRANCHES = (("teacher", r"^target_encoder\."), ("student", r"^encoder\."))

IJEPA = Format(
    name="ijepa",
    project="I-JEPA",
    link="https://github.com/facebookresearch/ijepa",
    licence="CC-BY-NC-4.0",
    method="ijepa",
    marks=("encoder.module.*", "target_encoder.module.*"),
    files=("IN1K-vit*", "IN22K-vit*"),
    branches=_BRANCHES,
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("timm:vit_*_patch*_gap_*", "zoo"),
)
MSN = Format(
    name="msn",
    project="MSN",
    link="https://github.com/facebookresearch/msn",
    licence="CC-BY-NC-4.0",
    method="msn",
    marks=("target_encoder.*", "prototypes*"),
    files=("vit*_800ep.pth.tar", "vits16_*", "vitb16_*", "vitl16_*"),
    branches=_BRANCHES,
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("zoo",),
)
