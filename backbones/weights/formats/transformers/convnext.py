"""ConvNeXt and ConvNeXt v2."""

from backbones.weights.formats.transformers import LINK
from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="hf-convnext",
    project="transformers ConvNeXt and ConvNeXt v2",
    link=LINK,
    anchors=("embeddings.patch_embeddings.weight",),
    marks=("*encoder.stages.0.layers.0.dwconv.weight",),
    renames=(
        (r"^embeddings\.patch_embeddings\.", "stem.0."),
        (r"^embeddings\.layernorm\.", "stem.1."),
        (r"^encoder\.stages\.(\d+)\.downsampling_layer\.", r"stages.\1.downsample."),
        (r"^encoder\.stages\.(\d+)\.layers\.", r"stages.\1.blocks."),
        (r"\.dwconv\.", ".conv_dw."),
        (r"\.layernorm\.(weight|bias)$", r".norm.\1"),
        (r"\.pwconv([12])\.", r".mlp.fc\1."),
        (r"\.grn\.", ".mlp.grn."),
        (r"\.layer_scale_parameter$", ".gamma"),
        (r"^layernorm\.", "head.norm."),
    ),
    norm=IMAGENET,
    # The norms between stages have 1e-6; the last one takes layer_norm_eps, 1e-12.
    norm_eps=1e-6,
    eps_norms=("head.norm",),
    stated_eps=1e-12,
    archs=("timm:convnext_*", "timm:convnextv2_*"),
    model_types=("convnext", "convnextv2"),
)
