"""EsViT's ViL with relative positions: full checkpoints (teacher by default) and bare backbones."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="esvit-vil",
    project="EsViT",
    link="https://github.com/microsoft/esvit",
    licence="MIT",
    method="esvit",
    anchors=("layer1.0.proj.weight",),
    marks=("*layer1.0.proj.weight", "*layer1.1.attn.local_relative_position_bias_table"),
    # models/vision_longformer.py.
    renames=(
        (r"^(layer\d+\.0)\.cls_token$", r"\1.prefix"),
        (r"^(layer\d+\.0)\.(proj|norm_embed)\.", r"\1.embed.\2."),
        (r"\.norm_embed\.", ".norm."),
        (r"\.attn\.local_relative_position_bias_table$", ".attn.bias_local"),
        (r"\.attn\.g2l_relative_position_bias$", ".attn.bias_cross"),
        (r"\.attn\.g2g_relative_position_bias$", ".attn.bias_global"),
    ),
    steps=("number_vil", "split_vil_qkv", "drop_shared_projections"),
    branches=(("teacher", r"^teacher\."), ("student", r"^student\.")),
    norm=IMAGENET,
    archs=("vil-2262",),
)
