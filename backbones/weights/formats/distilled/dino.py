"""DINO: full checkpoints (teacher by default) and bare backbones."""

from backbones.vit.positions_rule import NUDGED
from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="dino",
    project="DINO",
    link="https://github.com/facebookresearch/dino",
    licence="Apache-2.0",
    method="dino",
    marks=("teacher.*head.last_layer.weight_*", "student.*head.last_layer.weight_*"),
    files=("dino_*",),
    branches=(("teacher", r"^teacher\."), ("student", r"^student\.")),
    norm=IMAGENET,
    positions=NUDGED,
    archs=("zoo",),
)
