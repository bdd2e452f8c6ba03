"""DINOv3: ViT with rotary positions, and ConvNeXt."""

from backbones.weights.formats.transformers import LINK
from backbones.weights.layout import IMAGENET, Format

VIT = Format(
    name="hf-dinov3",
    project="transformers DINOv3 ViT",
    link=LINK,
    licence="DINOv3 License",
    method="dinov3",
    anchors=("embeddings.patch_embeddings.weight",),
    renames=(
        (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
        (r"^embeddings\.register_tokens$", "reg_token"),
        (r"^embeddings\.(\w+)$", r"\1"),
        (r"^(?:model\.)?layer\.(\d+)\.", r"blocks.\1."),
        (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
        (r"\.attention\.o_proj\.", ".attn.proj."),
        (r"\.layer_scale([12])\.lambda1$", r".gamma_\1"),
        (r"\.mlp\.up_proj\.", ".mlp.fc1."),
        (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    ),
    steps=("join_qkv",),
    drops=(("rope_embeddings.*", "buffer, computed again"),),
    norm=IMAGENET,
    norm_eps=1e-5,
    names_gates=True,
    archs=("timm:vit_*_patch16_dinov3", "timm:vit_*_patch16_dinov3_qkvb"),
    model_types=("dinov3_vit",),
)
CONVNEXT = Format(
    name="hf-dinov3-convnext",
    project="transformers DINOv3 ConvNeXt",
    link=LINK,
    licence="DINOv3 License",
    method="dinov3",
    anchors=("stages.0.downsample_layers.0.weight",),
    renames=(
        (r"^(?:model\.)?stages\.0\.downsample_layers\.", "stem."),
        (r"^(?:model\.)?stages\.(\d+)\.downsample_layers\.", r"stages.\1.downsample."),
        (r"^(?:model\.)?stages\.(\d+)\.layers\.", r"stages.\1.blocks."),
        (r"\.depthwise_conv\.", ".conv_dw."),
        (r"\.layer_norm\.(weight|bias)$", r".norm.\1"),
        (r"\.pointwise_conv([12])\.", r".mlp.fc\1."),
        (r"^(?:layer_)?norm\.", "head.norm."),
    ),
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=(
        "timm:convnext_tiny",
        "timm:convnext_small",
        "timm:convnext_base",
        "timm:convnext_large",
    ),
    model_types=("dinov3_convnext",),
)
