"""CAPI, whose network no backbone here builds."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="capi",
    project="CAPI",
    link="https://github.com/facebookresearch/capi",
    licence="Apache-2.0",
    method="capi",
    marks=("*encoder.blocks.0.residual1.fn.q_proj.weight", "*registers"),
    files=("capi_*",),
    norm=IMAGENET,  # utils.py: IMAGENET_NORM
    refused=(
        "is of CAPI, whose ViT has root-mean-square norms, no biases and rotary positions with "
        "registers at the image's edge (model.py); no backbone here builds it"
    ),
)
