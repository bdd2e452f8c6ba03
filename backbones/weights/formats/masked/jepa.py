"""I-JEPA and MSN: the target encoder is the teacher, which both evaluate.

MSN's logistic_eval.py and linear_eval.py load ``target_encoder``; I-JEPA's paper, section 4, says
the same. Both normalise with ImageNet's values (src/data_manager.py, src/transforms.py).
"""

from backbones.weights.layout import IMAGENET, Format

_BRANCHES = (("teacher", r"^target_encoder\."), ("student", r"^encoder\."))

IJEPA = Format(
    name="ijepa",
    project="I-JEPA",
    link="https://github.com/facebookresearch/ijepa",
    licence="CC-BY-NC-4.0",
    method="ijepa",
    marks=("encoder.module.*", "target_encoder.module.*", "predictor.module.*"),
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
    marks=("target_encoder.*", "target_encoder.*cls_token", "prototypes*"),
    files=("vit*_800ep.pth.tar", "vits16_*", "vitb16_*", "vitl16_*"),
    branches=_BRANCHES,
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("zoo",),
)
