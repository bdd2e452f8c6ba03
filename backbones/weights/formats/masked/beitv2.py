"""BEiT v2: pretraining (one bias table for all blocks) and fine-tuning."""

from backbones.weights.layout import IMAGENET, Format

_LINK = "https://github.com/microsoft/unilm/tree/master/beit2"
_BRANCHES = (("raw", r"^(?!.*ema)"), ("ema", r"ema"))
_ARCHS = ("beit-b16", "timm:beitv2_large_patch16_224")

PRETRAINED = Format(
    name="beitv2",
    project="BEiT v2, pretraining files",
    link=_LINK,
    licence="MIT",
    method="beitv2",
    marks=("*cls_pt_layers.*", "*lm_head.weight", "*rel_pos_bias.relative_position_bias_table"),
    steps=("share_bias_table",),
    drops=(
        ("lm_head.*", "predicts tokens"),
        ("cls_pt_layers.*", "layers of BEiT v2's pretraining only"),
    ),
    branches=_BRANCHES,
    # PRETRAINING.md and get_started_for_image_classification.md: every command has
    # --imagenet_default_mean_and_std.
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=_ARCHS,
)
# Names and shapes are BEiT's; only the file's name tells the two apart.
FINE_TUNED = Format(
    name="beitv2-finetuned",
    project="BEiT v2, fine-tuned files",
    link=_LINK,
    licence="MIT",
    method="beitv2",
    marks=("*blocks.0.attn.relative_position_bias_table", "*blocks.0.gamma_1"),
    files=("beitv2_*",),
    branches=_BRANCHES,
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=_ARCHS,
)
