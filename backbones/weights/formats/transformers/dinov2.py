"""DINOv2 without and with registers."""

from backbones.vit.positions_rule import ANTIALIASED, NUDGED
from backbones.weights.formats.transformers import LINK, VIT_ANCHORS, VIT_AROUND, VIT_BLOCKS
from backbones.weights.layout import IMAGENET, Format

_RENAMES = (
    *VIT_BLOCKS,
    *VIT_AROUND,
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
)

PLAIN = Format(
    name="hf-dinov2",
    project="transformers DINOv2",
    link=LINK,
    licence="Apache-2.0",
    method="dinov2",
    anchors=VIT_ANCHORS,
    marks=("*encoder.layer.0.layer_scale1.lambda1",),
    renames=_RENAMES,
    steps=("join_qkv",),
    norm=IMAGENET,
    # As the authors' code; transformers leaves the 0.1 out, so that its features at sizes other
    # than the table's differ from those of both.
    positions=NUDGED,
    norm_eps=1e-6,
    archs=("timm:vit_*_patch14_dinov2",),
    model_types=("dinov2",),
)
REGISTERS = Format(
    name="hf-dinov2-registers",
    project="transformers DINOv2 with registers",
    link=LINK,
    licence="Apache-2.0",
    method="dinov2",
    anchors=VIT_ANCHORS,
    marks=("*encoder.layer.0.layer_scale1.lambda1", "*embeddings.register_tokens"),
    renames=_RENAMES,
    steps=("join_qkv", "fold_class_position"),
    norm=IMAGENET,
    positions=ANTIALIASED,
    norm_eps=1e-6,
    archs=("timm:vit_*_patch14_reg4_dinov2",),
    model_types=("dinov2_with_registers",),
)
