"""ConvNeXt and ConvNeXt v2 under their projects' own names."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="convnext",
    project="ConvNeXt and ConvNeXt v2",
    link="https://github.com/facebookresearch/ConvNeXt",
    licence="MIT",
    anchors=("downsample_layers.0.0.weight",),
    marks=("*stages.0.0.dwconv.weight",),
    renames=(
        (r"^downsample_layers\.0\.", "stem."),
        (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
        (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
        (r"\.dwconv\.(?:conv\.)?", ".conv_dw."),
        (r"\.pwconv([12])\.", r".mlp.fc\1."),
        (r"\.grn\.(gamma|beta)$", r".mlp.grn.\1"),
        (r"\.mlp\.grn\.gamma$", ".mlp.grn.weight"),
        (r"\.mlp\.grn\.beta$", ".mlp.grn.bias"),
        (r"^norm\.", "head.norm."),
    ),
    branches=(("raw", r"^(?!.*ema)"), ("ema", r"ema")),
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("timm:convnext_*", "timm:convnextv2_*"),
)
