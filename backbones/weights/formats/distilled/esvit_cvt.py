"""EsViT's CvT: full checkpoints (teacher by default) and bare backbones."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="esvit-cvt",
    project="EsViT",
    link="https://github.com/microsoft/esvit",
    licence="MIT",
    method="esvit",
    anchors=("stage0.0.proj.weight",),
    marks=("*stage0.0.proj.weight", "*stage0.1.layers.0.0.fn.qkv.dw.weight"),
    # models/cvt_v4_transformer.py.
    renames=(
        (r"^stage(\d+)\.0\.", r"stages.\1.embed."),
        (r"^stage(\d+)\.1\.layers\.(\d+)\.", r"stages.\1.blocks.\2."),
        (r"(\.blocks\.\d+)\.0\.norm\.", r"\1.norm1."),
        (r"(\.blocks\.\d+)\.1\.norm\.", r"\1.norm2."),
        (r"\.0\.fn\.qkv\.dw\.", ".attn.qkv.depthwise."),
        (r"\.0\.fn\.qkv\.bn\.", ".attn.qkv.norm."),
        (r"\.0\.fn\.qkv\.pw\.", ".attn.qkv.pointwise."),
        (r"\.0\.fn\.proj_out\.", ".attn.proj."),
        (r"\.1\.fn\.net\.0\.", ".mlp.fc1."),
        (r"\.1\.fn\.net\.2\.", ".mlp.fc2."),
    ),
    steps=("flatten_pointwise",),
    branches=(("teacher", r"^teacher\."), ("student", r"^student\.")),
    norm=IMAGENET,
    archs=("cvt-t-w7",),
)
