"""BEiT: pretraining (one bias table, copied to every block) and fine-tuning."""

from backbones.weights.layout import HALF, Format

FORMAT = Format(
    name="beit",
    project="BEiT",
    link="https://github.com/microsoft/unilm/tree/master/beit",
    licence="MIT",
    method="beit",
    marks=("*blocks.0.attn.relative_position_bias_table", "*blocks.0.gamma_1"),
    files=("beit_*",),
    steps=("share_bias_table",),
    drops=(("lm_head.*", "predicts dVAE tokens"),),
    branches=(("raw", r"^(?!.*ema)"), ("ema", r"ema")),
    # run_class_finetuning.py: IMAGENET_INCEPTION unless --imagenet_default_mean_and_std.
    norm=HALF,
    archs=("beit-b16", "timm:beit_*_patch16_*"),
)
PRETRAINED = Format(
    name="beit-pretrained",
    project="BEiT, pretraining files",
    link="https://github.com/microsoft/unilm/tree/master/beit",
    licence="MIT",
    method="beit",
    marks=("*rel_pos_bias.relative_position_bias_table", "*lm_head.weight"),
    steps=("share_bias_table",),
    drops=(
        ("lm_head.*", "predicts dVAE tokens"),
        ("cls_pt_layers.*", "layers of BEiT v2's pretraining only"),
    ),
    norm=HALF,
    archs=("beit-b16", "timm:beit_*_patch16_*"),
)
