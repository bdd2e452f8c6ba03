"""Methods that predict masked patches with BEiT's or MAE's network under a prefix of their own."""

from backbones.weights.layout import HALF, IMAGENET, Format

CAE = Format(
    name="cae",
    project="CAE",
    link="https://github.com/lxtGH/CAE",
    method="cae",
    marks=("model.encoder.*", "model.teacher.*"),
    steps=("share_bias_table",),
    branches=(("student", r"(^|\.)encoder\."), ("teacher", r"(^|\.)teacher\.")),
    norm=IMAGENET,
    archs=("beit-b16", "zoo"),
)
DATA2VEC = Format(
    name="data2vec",
    project="data2vec-vision (BEiT's code)",
    link="https://github.com/facebookresearch/data2vec_vision",
    licence="CC-BY-NC-4.0",
    method="data2vec",
    files=("*data2vec*",),
    steps=("share_bias_table",),
    norm=HALF,
    archs=("beit-b16",),
)
BEIT_V2 = Format(
    name="beitv2",
    project="BEiT v2",
    link="https://github.com/microsoft/unilm/tree/master/beit2",
    licence="MIT",
    method="beitv2",
    marks=("*cls_pt_layers.*", "*lm_head.weight", "*rel_pos_bias.relative_position_bias_table"),
    files=("beitv2_*",),
    steps=("share_bias_table",),
    drops=(
        ("lm_head.*", "predicts tokens"),
        ("cls_pt_layers.*", "layers of BEiT v2's pretraining only"),
    ),
    # run_class_finetuning.py of BEiT v2 keeps ImageNet's mean and standard deviation.
    norm=IMAGENET,
    archs=("beit-b16",),
)
