"""EVA-02: pretraining and fine-tuning files (EVA-02/asuka)."""

from backbones.weights.layout import CLIP, Format

FORMAT = Format(
    name="eva02",
    project="EVA-02",
    link="https://github.com/baaivision/EVA/tree/master/EVA-02",
    licence="MIT",
    method="eva02",
    anchors=("patch_embed.proj.weight",),
    marks=("*blocks.0.mlp.w3.weight", "*blocks.0.attn.q_bias", "*blocks.0.attn.v_bias"),
    files=("eva02_*",),
    renames=(
        (r"\.mlp\.ffn_ln\.", ".mlp.norm."),
        (r"\.mlp\.w12\.", ".mlp.fc1."),
        (r"\.mlp\.w1\.", ".mlp.fc1_g."),
        (r"\.mlp\.w2\.", ".mlp.fc1_x."),
        (r"\.mlp\.w3\.", ".mlp.fc2."),
    ),
    steps=("name_separate_biases",),
    drops=(
        ("lm_head.*", "predicts features of the teacher"),
        ("rope.*", "buffer, computed again"),
        ("*.rope.*", "buffer, computed again"),
    ),
    branches=(("raw", r"^(?!.*ema)"), ("ema", r"ema")),
    # asuka/datasets.py, without --imagenet_default_mean_and_std
    norm=CLIP,
    norm_eps=1e-6,
    archs=("timm:eva02_*_patch14_{image}", "timm:eva02_*_patch14_224"),
)
