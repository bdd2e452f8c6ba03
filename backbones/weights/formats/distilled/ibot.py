"""iBOT: DINO's files with a token for masked patches and a shared head."""

from backbones.vit.positions_rule import NUDGED
from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="ibot",
    project="iBOT",
    link="https://github.com/bytedance/ibot",
    licence="Apache-2.0",
    method="ibot",
    marks=("*masked_embed", "teacher.*", "student.*"),
    files=("ibot_*", "checkpoint_teacher.pth", "checkpoint_student.pth"),
    branches=(("teacher", r"^teacher\."), ("student", r"^student\.")),
    norm=IMAGENET,
    positions=NUDGED,
    norm_eps=1e-6,
    archs=("zoo",),
)
