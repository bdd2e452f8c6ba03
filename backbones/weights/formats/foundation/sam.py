"""The image encoders of SAM and SAM 2 in their projects' own files."""

from backbones.weights.layout import IMAGENET, Format

SAM = Format(
    name="sam",
    project="Segment Anything",
    link="https://github.com/facebookresearch/segment-anything",
    licence="Apache-2.0",
    method="sam",
    anchors=("patch_embed.proj.weight",),
    marks=("*image_encoder.blocks.0.mlp.lin1.weight",),
    renames=((r"\.mlp\.lin([12])\.", r".mlp.fc\1."),),
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("timm:samvit_*",),
)

SAM_2 = Format(
    name="sam2",
    project="SAM 2, image encoder",
    link="https://github.com/facebookresearch/sam2",
    licence="Apache-2.0",
    method="sam2",
    anchors=("patch_embed.proj.weight",),
    marks=(
        "*image_encoder.trunk.pos_embed_window",
        "*image_encoder.trunk.blocks.0.attn.qkv.weight",
    ),
    renames=(
        (r"\.mlp\.layers\.0\.", ".mlp.fc1."),
        (r"\.mlp\.layers\.1\.", ".mlp.fc2."),
    ),
    fresh=(("head.norm.*", "SAM 2 pools nothing, timm norms what it pools"),),
    # sam2/utils/transforms.py
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("timm:sam2_hiera_*",),
)
