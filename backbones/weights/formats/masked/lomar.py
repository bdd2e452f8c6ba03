"""LoMaR: pretraining and fine-tuning; iRPE tables keep their names."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="lomar",
    project="LoMaR",
    link="https://github.com/junchen14/LoMaR",
    licence="CC-BY-NC-4.0",
    method="lomar",
    marks=("*.attn.rpe_k.lookup_table_weight",),
    drops=(
        ("encoder_pred.*", "LoMaR's prediction layer"),
        ("pos_embed", "stored by LoMaR but never added to anything"),
    ),
    norm=IMAGENET,
    archs=("lomar-vit-b16",),
)
