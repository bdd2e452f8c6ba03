"""Perception Encoder: core with its pooling head, spatial and language without."""

from backbones.vit.positions_rule import PERCEPTION
from backbones.weights.formats.libraries.openclip import TOWER
from backbones.weights.layout import HALF, Format

FORMAT = Format(
    name="perception-encoder",
    project="Perception Encoder, image tower",
    link="https://github.com/facebookresearch/perception_models",
    licence="Apache-2.0",
    method="perception-encoder",
    anchors=("conv1.weight",),
    marks=("*conv1.weight", "*positional_embedding", "*ln_pre.weight", "*attn_pool.probe"),
    files=("PE-*",),
    renames=(
        (r"^attn_pool\.attn\.in_proj_", "attn_pool.in_proj_"),
        (r"^attn_pool\.attn\.out_proj\.", "attn_pool.proj."),
        (r"^attn_pool\.layernorm\.", "attn_pool.norm."),
        (r"^attn_pool\.probe$", "attn_pool.latent"),
        (r"^attn_pool\.mlp\.c_fc\.", "attn_pool.mlp.fc1."),
        (r"^attn_pool\.mlp\.c_proj\.", "attn_pool.mlp.fc2."),
        (r"\.ls_([12])\.gamma$", r".gamma_\1"),
        *TOWER,
    ),
    steps=("split_pool", "lead_positions"),
    drops=(
        ("proj", "projection to the space of texts"),
        ("rope.*", "buffer, computed again"),
    ),
    # core/vision_encoder/transforms.py
    norm=HALF,
    positions=PERCEPTION,
    norm_eps=1e-5,
    archs=("timm:vit_pe_*",),
)
