"""Swin and Swin v2."""

from backbones.weights.formats.transformers import LINK, POOLER, VIT_ANCHORS
from backbones.weights.layout import IMAGENET, Format

_RENAMES = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^encoder\.layers\.", "layers."),
    (r"\.attention\.self\.(q)uery\.", r".attn.\1."),
    (r"\.attention\.self\.(k)ey\.", r".attn.\1."),
    (r"\.attention\.self\.(v)alue\.", r".attn.\1."),
    (r"\.attention\.self\.continuous_position_bias_mlp\.", ".attn.cpb_mlp."),
    (r"\.attention\.self\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"^layernorm\.", "norm."),
)

# The norms of patch embedding and merging keep torch's 1e-5.
_EPS_NORMS = ("*.norm1", "*.norm2", "norm")

SWIN = Format(
    name="hf-swin",
    project="transformers Swin",
    link=LINK,
    licence="MIT",
    anchors=VIT_ANCHORS,
    marks=("*encoder.layers.0.blocks.0.attention.self.relative_position_bias_table",),
    renames=_RENAMES,
    steps=("join_qkv", "patch_merging"),
    drops=POOLER,
    norm=IMAGENET,
    norm_eps=1e-5,
    eps_norms=_EPS_NORMS,
    archs=("zoo", "timm:swin_*_patch4_window*_{image}"),
    model_types=("swin",),
)
SWIN_V2 = Format(
    name="hf-swinv2",
    project="transformers Swin v2",
    link=LINK,
    licence="MIT",
    anchors=VIT_ANCHORS,
    marks=("*encoder.layers.0.blocks.0.attention.self.logit_scale",),
    renames=_RENAMES,
    steps=("join_qkv", "patch_merging"),
    drops=POOLER,
    norm=IMAGENET,
    norm_eps=1e-5,
    eps_norms=_EPS_NORMS,
    archs=("timm:swinv2_*_window*_{image}",),
    model_types=("swinv2",),
)
