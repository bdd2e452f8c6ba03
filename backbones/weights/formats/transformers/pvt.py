"""PVT v2."""

from backbones.weights.formats.transformers import LINK
from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="hf-pvt-v2",
    project="transformers PVT v2",
    link=LINK,
    licence="Apache-2.0",
    method="supervised",
    anchors=("encoder.layers.0.patch_embedding.proj.weight",),
    renames=(
        (r"^encoder\.layers\.0\.patch_embedding\.", "patch_embed."),
        (r"^encoder\.layers\.(\d+)\.patch_embedding\.", r"stages.\1.downsample."),
        (r"^encoder\.layers\.", "stages."),
        (r"\.attention\.spatial_reduction\.", ".attn.sr."),
        (r"\.attention\.layer_norm\.", ".attn.norm."),
        (r"\.attention\.(q)uery\.", r".attn.\1."),
        (r"\.attention\.(k)ey\.", r".attn.\1."),
        (r"\.attention\.(v)alue\.", r".attn.\1."),
        (r"\.attention\.proj\.", ".attn.proj."),
        (r"\.layer_norm_([12])\.", r".norm\1."),
        (r"\.layer_norm\.", ".norm."),
        (r"\.mlp\.dense([12])\.", r".mlp.fc\1."),
        (r"\.mlp\.dwconv\.dwconv\.", ".mlp.dwconv."),
    ),
    steps=("join_kv",),
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("timm:pvt_v2_b*",),
    model_types=("pvt_v2",),
)
