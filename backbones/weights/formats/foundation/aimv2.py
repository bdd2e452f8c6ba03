"""AIMv2's image encoders (aim/v2/torch/models.py)."""

from backbones.weights.layout import CLIP, Format

FORMAT = Format(
    name="aimv2",
    project="AIMv2",
    link="https://github.com/apple/ml-aim",
    licence="Apple ML Research Model License",
    method="aimv2",
    anchors=("preprocessor.patchifier.proj.weight",),
    marks=("*preprocessor.patchifier.proj.weight", "*trunk.blocks.0.mlp.fc3.weight"),
    renames=(
        (r"^preprocessor\.patchifier\.", "patch_embed."),
        (r"^preprocessor\.pos_embed$", "pos_embed"),
        (r"^trunk\.post_trunk_norm\.", "norm."),
        (r"^trunk\.", ""),
        (r"\.norm_([12])\.", r".norm\1."),
        (r"\.mlp\.fc1\.", ".mlp.fc1_g."),
        (r"\.mlp\.fc3\.", ".mlp.fc1_x."),
    ),
    # preprocessor_config.json of apple/aimv2-large-patch14-224, and timm's default_cfgs.
    norm=CLIP,
    archs=("timm:aimv2_*_{image}", "timm:aimv2_*_224"),
)
