"""CAE: a ViT with LayerScale, separate biases and fixed sine-cosine positions."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="cae",
    project="CAE",
    link="https://github.com/lxtGH/CAE",
    method="cae",
    marks=("*encoder.blocks.0.gamma_1", "*teacher.blocks.0.gamma_1", "*pretext_neck.*"),
    # tools/run_linear.py takes encoder., leaves teacher. out and reads the normed class token.
    branches=(("student", r"(^|\.)encoder\."), ("teacher", r"(^|\.)teacher\.")),
    # tools/run_linear.py; scripts/cae_base_800e.sh pretrains with the same values.
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("cae-b16", "cae-l16"),
)
