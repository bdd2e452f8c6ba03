"""solo-learn: its evaluation takes ``backbone.``, next to a momentum copy in some methods."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="solo-learn",
    project="solo-learn",
    link="https://github.com/vturrisi/solo-learn",
    licence="MIT",
    marks=("state_dict.backbone.*", "state_dict.momentum_backbone.*"),
    branches=(("student", r"\.backbone\."), ("teacher", r"\.momentum_backbone\.")),
    norm=IMAGENET,
    archs=("zoo",),
)
