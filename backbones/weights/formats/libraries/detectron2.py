"""detectron2: ``backbone.bottom_up.`` of its models, and the ResNets of its model zoo (.pkl)."""

from backbones.weights.layout import IMAGENET, Format

# detectron2's default input is BGR from 0 to 255, less the mean, not divided (config/defaults.py:
# INPUT.FORMAT, PIXEL_MEAN, PIXEL_STD). The first convolution is turned round to RGB here.
FORMAT = Format(
    name="detectron2",
    project="detectron2, ResNet",
    link="https://github.com/facebookresearch/detectron2",
    licence="Apache-2.0",
    anchors=("stem.conv1.weight",),
    marks=("*stem.conv1.norm.weight", "*res2.0.conv1.weight"),
    renames=(
        (r"^stem\.conv1\.norm\.", "bn1."),
        (r"^stem\.conv1\.", "conv1."),
        *((rf"^res{i + 1}\.", f"layer{i}.") for i in range(1, 5)),
        (r"\.conv([123])\.norm\.", r".bn\1."),
        (r"\.shortcut\.norm\.", ".downsample.1."),
        (r"\.shortcut\.", ".downsample.0."),
    ),
    steps=("rgb_stem",),
    drops=(("stem.fc.*", "classifier"), ("linear.*", "classifier")),
    norm=(IMAGENET[0], (1 / 255, 1 / 255, 1 / 255)),
    archs=("resnet50",),
)
