"""DeiT and DeiT III: supervised, with or without a distillation token."""

from backbones.vit.positions_rule import BICUBIC
from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="deit",
    project="DeiT",
    link="https://github.com/facebookresearch/deit",
    licence="Apache-2.0",
    method="supervised",
    marks=("*dist_token", "*head_dist.weight"),
    files=("deit_*",),
    # main.py evaluates "model"; its averaged copy only with --model-ema in training.
    branches=(("raw", r"^(?!.*ema)"), ("ema", r"ema")),
    norm=IMAGENET,
    positions=BICUBIC,
    norm_eps=1e-6,
    archs=("timm:deit_*_distilled_patch16_224", "zoo"),
)
