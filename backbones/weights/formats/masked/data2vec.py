"""data2vec-vision: BEiT's network; its head predicts features of the network's own width."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="data2vec",
    project="data2vec-vision, pretraining files",
    link="https://github.com/facebookresearch/data2vec_vision",
    licence="CC-BY-NC-4.0",
    method="data2vec",
    marks=("*rel_pos_bias.relative_position_bias_table", "*lm_head.weight"),
    square=("*lm_head.weight",),
    files=("*data2vec*",),
    steps=("share_bias_table",),
    drops=(("lm_head.*", "predicts features of the teacher"),),
    # run_class_finetuning.py --model_key "model|module" takes the raw copy.
    branches=(("raw", r"^(?!.*ema)"), ("ema", r"ema")),
    # beit/README.md pretrains with --imagenet_default_mean_and_std. Fine-tuning there goes without
    # it: those files are BEiT's in every respect, read by the format beit.
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("beit-b16", "timm:beit_large_patch16_224"),
)
