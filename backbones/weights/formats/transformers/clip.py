"""The image towers of CLIP and SigLIP (1 and 2)."""

from backbones.weights.formats.transformers import LINK
from backbones.weights.layout import CLIP, HALF, Format

_RENAMES = (
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^encoder\.layers\.(\d+)\.", r"blocks.\1."),
    (r"\.self_attn\.([qkv])_proj\.", r".attn.\1."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^post_layernorm\.", "norm."),
)
_DROPS = (("embeddings.position_ids", "buffer, computed again"),)
_ANCHORS = ("embeddings.patch_embedding.weight",)

CLIP_TOWER = Format(
    name="hf-clip",
    project="transformers CLIP, image tower",
    link=LINK,
    method="clip",
    anchors=_ANCHORS,
    marks=("*embeddings.class_embedding", "*pre_layrnorm.weight"),
    renames=_RENAMES,
    steps=("join_qkv", "lead_positions"),
    drops=_DROPS,
    norm=CLIP,
    norm_eps=1e-5,
    # Default of CLIPVisionConfig, as OpenAI trained it.
    activation="quick_gelu",
    archs=("timm:vit_*_patch{patch}_clip_{image}",),
    model_types=("clip", "clip_vision_model"),
)
SIGLIP_TOWER = Format(
    name="hf-siglip",
    project="transformers SigLIP and SigLIP 2, image tower",
    link=LINK,
    licence="Apache-2.0",
    method="siglip",
    anchors=_ANCHORS,
    marks=("*embeddings.patch_embedding.bias", "*head.probe"),
    renames=(
        *_RENAMES,
        (r"^head\.probe$", "attn_pool.latent"),
        (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
        (r"^head\.attention\.in_proj_", "attn_pool.in_proj_"),
        (r"^head\.layernorm\.", "attn_pool.norm."),
        (r"^head\.mlp\.", "attn_pool.mlp."),
    ),
    steps=("join_qkv", "split_pool", "lead_positions"),
    drops=_DROPS,
    norm=HALF,
    norm_eps=1e-6,
    # Default of SiglipVisionConfig.
    activation="gelu_pytorch_tanh",
    archs=("timm:vit_*_patch{patch}_siglip_{image}",),
    # SigLIP 2's files for images of one size are of these models, too.
    model_types=("siglip", "siglip_vision_model"),
)
SIGLIP_2_NAFLEX = Format(
    name="hf-siglip2-naflex",
    project="transformers SigLIP 2 NaFlex",
    link=LINK,
    licence="Apache-2.0",
    method="siglip",
    norm=HALF,
    model_types=("siglip2", "siglip2_vision_model"),
    refused=(
        "is of SigLIP 2 NaFlex, whose images keep their aspect ratio as lists of patches; "
        "no backbone here takes such lists. SigLIP 2 for one image size is read"
    ),
)
