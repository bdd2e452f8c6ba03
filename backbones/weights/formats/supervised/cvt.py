"""CvT's classification files."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="cvt",
    project="CvT",
    link="https://github.com/microsoft/CvT",
    licence="MIT",
    method="supervised",
    anchors=("stage0.patch_embed.proj.weight",),
    marks=("*stage0.patch_embed.proj.weight", "*stage0.blocks.0.attn.conv_proj_q.conv.weight"),
    # lib/models/cls_cvt.py.
    renames=(
        (r"^stage(\d+)\.patch_embed\.", r"stages.\1.embed."),
        (r"^stage(\d+)\.cls_token$", r"stages.\1.prefix"),
        (r"^stage(\d+)\.blocks\.", r"stages.\1.blocks."),
        (r"\.attn\.conv_proj_([qkv])\.conv\.", r".attn.\1.depthwise."),
        (r"\.attn\.conv_proj_([qkv])\.bn\.", r".attn.\1.norm."),
        (r"\.attn\.proj_([qkv])\.", r".attn.\1.pointwise."),
    ),
    norm=IMAGENET,
    archs=("cvt-13", "cvt-21"),
)
