"""DINOv2 and projects that train its network: released files, training files, block chunks."""

from backbones.vit.positions_rule import ANTIALIASED, NUDGED
from backbones.weights.layout import IMAGENET, Format

# FSDP training keeps blocks in chunks: blocks.0.0., blocks.0.1. … blocks.1.3.
RENAMES = (
    (r"^blocks\.\d+\.(\d+)\.(?=norm|attn|ls|mlp)", r"blocks.\1."),
    (r"^register_tokens$", "reg_token"),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
BRANCHES = (("teacher", r"(^|\.)teacher\."), ("student", r"(^|\.)student\."))
_LINK = "https://github.com/facebookresearch/dinov2"

FORMAT = Format(
    name="dinov2",
    project="DINOv2",
    link=_LINK,
    licence="Apache-2.0",
    method="dinov2",
    marks=("*mask_token", "*blocks.*.ls1.gamma", "*pos_embed"),
    files=("dinov2_vit*_pretrain*",),
    renames=RENAMES,
    branches=BRANCHES,
    norm=IMAGENET,
    positions=NUDGED,
    norm_eps=1e-6,
    archs=("timm:vit_*_patch14_dinov2",),
)
REGISTERS = Format(
    name="dinov2-registers",
    project="DINOv2 with registers",
    link=_LINK,
    licence="Apache-2.0",
    method="dinov2",
    marks=("*mask_token", "*blocks.*.ls1.gamma", "*pos_embed", "*register_tokens"),
    files=("dinov2_vit*_reg4_*",),
    renames=RENAMES,
    steps=("fold_class_position",),
    branches=BRANCHES,
    norm=IMAGENET,
    positions=ANTIALIASED,
    norm_eps=1e-6,
    archs=("timm:vit_*_patch14_reg4_dinov2",),
)
