"""SAM's image encoder in Segment Anything's own files."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="sam",
    project="Segment Anything",
    link="https://github.com/facebookresearch/segment-anything",
    licence="Apache-2.0",
    method="sam",
    anchors=("image_encoder.patch_embed.proj.weight", "patch_embed.proj.weight"),
    marks=("*image_encoder.blocks.0.mlp.lin1.weight",),
    renames=(
        (r"^image_encoder\.", ""),
        (r"\.mlp\.lin([12])\.", r".mlp.fc\1."),
    ),
    drops=(
        ("prompt_encoder.*", "prompt encoder"),
        ("mask_decoder.*", "mask decoder"),
    ),
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("timm:samvit_*",),
)
