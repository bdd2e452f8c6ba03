"""The image encoders of SAM and Hiera."""

from backbones.weights.formats.transformers import LINK, POOLER
from backbones.weights.layout import IMAGENET, Format

SAM = Format(
    name="hf-sam",
    project="transformers SAM, image encoder",
    link=LINK,
    licence="Apache-2.0",
    method="sam",
    anchors=("patch_embed.projection.weight",),
    marks=("*vision_encoder.layers.0.attn.rel_pos_h",),
    renames=(
        (r"^patch_embed\.projection\.", "patch_embed.proj."),
        (r"^layers\.", "blocks."),
        (r"^(blocks\.\d+)\.layer_norm([12])\.", r"\1.norm\2."),
        (r"\.mlp\.lin([12])\.", r".mlp.fc\1."),
        (r"^neck\.conv1\.", "neck.0."),
        (r"^neck\.layer_norm1\.", "neck.1."),
        (r"^neck\.conv2\.", "neck.2."),
        (r"^neck\.layer_norm2\.", "neck.3."),
    ),
    norm=IMAGENET,
    norm_eps=1e-6,
    eps_norms=("blocks.*",),
    archs=("timm:samvit_*_patch{patch}*",),
    model_types=("sam",),
)
HIERA = Format(
    name="hf-hiera",
    project="transformers Hiera",
    link=LINK,
    anchors=("embeddings.patch_embeddings.projection.weight",),
    marks=("*encoder.stages.0.layers.0.attn.qkv.weight",),
    renames=(
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"^pooler\.layernorm\.", "head.norm."),
    ),
    steps=("number_blocks",),
    drops=POOLER,
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("timm:hiera_*_{image}",),
    model_types=("hiera",),
)
