"""DINOv3: released backbones and training files."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="dinov3",
    project="DINOv3",
    link="https://github.com/facebookresearch/dinov3",
    licence="DINOv3 License",
    method="dinov3",
    marks=("*storage_tokens", "*blocks.0.attn.qkv.weight"),
    files=("dinov3_vit*",),
    renames=(
        (r"^blocks\.\d+\.(\d+)\.(?=norm|attn|ls|mlp)", r"blocks.\1."),
        (r"^storage_tokens$", "reg_token"),
    ),
    drops=(
        ("rope_embed.*", "buffer, computed again"),
        ("*.attn.qkv.bias_mask", "buffer: keys have no bias"),
        ("local_cls_norm.*", "norm of local crops in pretraining only"),
    ),
    steps=("mask_key_bias",),
    branches=(("teacher", r"(^|\.)(teacher|model_ema)\."), ("student", r"(^|\.)student\.")),
    norm=IMAGENET,
    norm_eps=1e-5,
    archs=("timm:vit_*_patch16_dinov3", "timm:vit_*_patch16_dinov3_qkvb"),
)
