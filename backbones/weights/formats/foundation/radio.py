"""RADIO, whose rule for positions no backbone here follows."""

from backbones.weights.layout import CLIP, Format

FORMAT = Format(
    name="radio",
    project="RADIO",
    link="https://github.com/NVlabs/RADIO",
    licence="NVIDIA Open Model License",
    method="radio",
    marks=("*patch_generator.embedder.weight", "*patch_generator.pos_embed"),
    norm=CLIP,  # radio/input_conditioner.py
    refused=(
        "is of RADIO, which cuts its positions bilinearly from a table of 128 x 128 "
        "(radio/vit_patch_generator.py); no backbone here does that"
    ),
)
