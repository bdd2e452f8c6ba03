"""BEiT, with the tables of relative positions of each block or shared by all."""

from backbones.weights.formats.transformers import LINK, VIT_ANCHORS, VIT_AROUND, VIT_BLOCKS
from backbones.weights.layout import HALF, Format

FORMAT = Format(
    name="hf-beit",
    project="transformers BEiT",
    link=LINK,
    method="beit",
    anchors=VIT_ANCHORS,
    marks=("*layer*.0.lambda_1", "*embeddings.patch_embeddings.projection.weight"),
    # The model of pretraining keeps the last norm next to the network.
    moves=((r"^(?!.*(?:beit|pooler)\.)((?:.*\.)?)layernorm\.", r"\1beit.layernorm."),),
    renames=(
        (r"\.attention\.attention\.relative_position_bias\.", ".attn."),
        (r"^(layers\.\d+)\.relative_position_bias\.", r"\1.attn."),
        (r"^(encoder\.relative|shared)_position_bias\.", "rel_pos_bias."),
        (r"\.lambda_([12])$", r".gamma_\1"),
        (r"^pooler\.layernorm\.", "fc_norm."),
        *VIT_BLOCKS,
        *VIT_AROUND,
    ),
    steps=("join_qkv", "share_bias_table"),
    fresh=(("norm.*", "saved without the pooling layer, which holds the norm"),),
    norm=HALF,
    norm_eps=1e-12,
    archs=("beit-b16", "timm:beit*_patch{patch}_{image}"),
    model_types=("beit", "data2vec-vision"),
)
