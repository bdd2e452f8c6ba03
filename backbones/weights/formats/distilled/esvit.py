"""EsViT: full checkpoints (teacher by default) and bare backbones."""

from backbones.vit.positions_rule import NUDGED
from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="esvit",
    project="EsViT",
    link="https://github.com/microsoft/esvit",
    licence="MIT",
    method="esvit",
    marks=("teacher.*head.mlp.*", "student.*head.mlp.*", "teacher.*layers.0.blocks.0.*"),
    steps=("patch_merging",),
    branches=(("teacher", r"^teacher\."), ("student", r"^student\.")),
    norm=IMAGENET,
    positions=NUDGED,
    # models/swin_transformer.py builds its norms with eps=1e-6.
    norm_eps=1e-6,
    archs=("zoo",),
)
