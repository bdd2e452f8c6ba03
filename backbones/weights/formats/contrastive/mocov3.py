"""MoCo v3: the base encoder is the student, the momentum encoder the teacher.

The authors evaluate the base encoder, hence the default. Its sin-cos table has MAE's halves
swapped, so it is loaded like any other tensor.
"""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="mocov3",
    project="MoCo v3",
    link="https://github.com/facebookresearch/moco-v3",
    licence="CC-BY-NC-4.0",
    method="mocov3",
    # Files that hold the base encoder only are of this format, too.
    marks=("*module.base_encoder.*",),
    branches=(("student", r"base_encoder\."), ("teacher", r"momentum_encoder\.")),
    norm=IMAGENET,
    num_heads={384: 12},
    archs=("zoo",),
)
