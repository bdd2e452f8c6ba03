"""Franca: DINOv2's training code with SwiGLU in all sizes (franca/hub/backbones.py)."""

from backbones.vit.positions_rule import NUDGED
from backbones.weights.formats.distilled.dinov2 import BRANCHES, RENAMES
from backbones.weights.layout import IMAGENET, Format

FRANCA = Format(
    name="franca",
    project="Franca",
    link="https://github.com/valeoai/Franca",
    licence="Apache-2.0",
    method="franca",
    marks=("*mask_token", "*blocks.*.ls1.gamma", "*pos_embed", "*mlp.w12.weight"),
    files=("franca_*",),
    renames=RENAMES,
    branches=BRANCHES,
    norm=IMAGENET,
    # FrancaConfig: interpolate_offset 0.1, no antialias.
    positions=NUDGED,
    norm_eps=1e-6,
    archs=("franca-b14", "franca-l14", "timm:vit_giant_patch14_dinov2"),
)
