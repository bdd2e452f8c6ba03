"""torchvision's own networks: ViT, Swin, Swin v2 and ConvNeXt.

Its ResNets have timm's names, which are the original ones.
"""

from backbones.weights.layout import IMAGENET, Format

_LINK = "https://github.com/pytorch/vision"

VIT = Format(
    name="torchvision-vit",
    project="torchvision ViT",
    link=_LINK,
    licence="BSD-3-Clause",
    method="supervised",
    anchors=("conv_proj.weight",),
    marks=("*encoder.layers.encoder_layer_0.ln_1.weight",),
    renames=(
        (r"^conv_proj\.", "patch_embed.proj."),
        (r"^class_token$", "cls_token"),
        (r"^encoder\.pos_embedding$", "pos_embed"),
        (r"^encoder\.ln\.", "norm."),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
        (r"\.ln_([12])\.", r".norm\1."),
        (r"\.self_attention\.in_proj_", ".attn.qkv."),
        (r"\.self_attention\.out_proj\.", ".attn.proj."),
        (r"\.mlp\.(?:linear_1|0)\.", ".mlp.fc1."),
        (r"\.mlp\.(?:linear_2|3)\.", ".mlp.fc2."),
    ),
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("zoo",),
)
SWIN = Format(
    name="torchvision-swin",
    project="torchvision Swin",
    link=_LINK,
    licence="BSD-3-Clause",
    method="supervised",
    anchors=("features.0.0.weight",),
    marks=("*features.1.0.attn.relative_position_bias_table", "*features.0.2.weight"),
    renames=(
        (r"^features\.0\.0\.", "patch_embed.proj."),
        (r"^features\.0\.2\.", "patch_embed.norm."),
        *((rf"^features\.{2 * i + 1}\.(\d+)\.", rf"layers.{i}.blocks.\1.") for i in range(4)),
        *((rf"^features\.{2 * i}\.", f"layers.{i}.downsample.") for i in range(1, 4)),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.3\.", ".mlp.fc2."),
    ),
    norm=IMAGENET,
    norm_eps=1e-5,
    archs=("zoo",),
)
SWIN_V2 = Format(
    name="torchvision-swinv2",
    project="torchvision Swin v2",
    link=_LINK,
    licence="BSD-3-Clause",
    method="supervised",
    anchors=("features.0.0.weight",),
    marks=("*features.1.0.attn.logit_scale", "*features.1.0.attn.cpb_mlp.0.weight"),
    renames=SWIN.renames,
    # torchvision sets the bias of keys to zero in every forward pass.
    steps=("mask_key_bias",),
    norm=IMAGENET,
    norm_eps=1e-5,
    archs=("timm:swinv2_*_window8_256",),
)
CONVNEXT = Format(
    name="torchvision-convnext",
    project="torchvision ConvNeXt",
    link=_LINK,
    licence="BSD-3-Clause",
    method="supervised",
    anchors=("features.0.0.weight",),
    marks=("*features.1.0.layer_scale", "*features.1.0.block.0.weight"),
    renames=(
        (r"^features\.0\.", "stem."),
        *((rf"^features\.{2 * i + 1}\.(\d+)\.", rf"stages.{i}.blocks.\1.") for i in range(4)),
        *((rf"^features\.{2 * i}\.", f"stages.{i}.downsample.") for i in range(1, 4)),
        (r"\.layer_scale$", ".gamma"),
        (r"\.block\.0\.", ".conv_dw."),
        (r"\.block\.2\.", ".norm."),
        (r"\.block\.3\.", ".mlp.fc1."),
        (r"\.block\.5\.", ".mlp.fc2."),
        (r"^classifier\.0\.", "head.norm."),
    ),
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=(
        "timm:convnext_tiny",
        "timm:convnext_small",
        "timm:convnext_base",
        "timm:convnext_large",
    ),
)
