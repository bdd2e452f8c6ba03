"""Google's Vision Transformer in JAX: the ``.npz`` files of AugReg and of the first paper."""

from backbones.vit.positions_rule import ANTIALIASED
from backbones.weights.layout import HALF, Format

FORMAT = Format(
    name="jax-vit",
    project="Vision Transformer and AugReg (JAX)",
    link="https://github.com/google-research/vision_transformer",
    licence="Apache-2.0",
    method="supervised",
    anchors=("embedding/kernel",),
    marks=("*embedding/kernel", "*Transformer/encoderblock_0/*"),
    moves=((r"^(?:opt/target/|params/)", ""),),
    steps=("jax_vit", "join_qkv"),
    drops=(
        ("head.*", "classifier"),
        ("pre_logits*", "layer in front of an old classifier"),
    ),
    # vit_jax/input_pipeline.py and vit_jax/preprocess.py: pixels from -1 to 1.
    norm=HALF,
    # flax.linen.gelu approximates by default; timm's networks of these weights do not.
    activation="gelu_pytorch_tanh",
    # vit_jax resizes tables with scipy's zoom, corners aligned. No network here does that, so that
    # sizes other than the table's follow timm's networks of these weights.
    positions=ANTIALIASED,
    norm_eps=1e-6,
    archs=("zoo", "timm:vit_*_patch*_224", "timm:vit_*_patch*_384"),
)
