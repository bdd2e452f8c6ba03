"""ViT and the models that share its names: ViTMAE, ViTMSN, DeiT and I-JEPA."""

from backbones.weights.formats.transformers import LINK, POOLER, VIT_ANCHORS, VIT_AROUND, VIT_BLOCKS
from backbones.weights.layout import HALF, IMAGENET, Format

_RENAMES = (*VIT_BLOCKS, *VIT_AROUND)

VIT = Format(
    name="hf-vit",
    project="transformers ViT",
    link=LINK,
    anchors=VIT_ANCHORS,
    renames=_RENAMES,
    steps=("join_qkv",),
    drops=POOLER,
    norm=HALF,
    norm_eps=1e-12,
    archs=("zoo", "timm:vit_*_patch{patch}_{image}"),
    model_types=("vit",),
)
MAE = Format(
    name="hf-vit-mae",
    project="transformers ViTMAE",
    link=LINK,
    method="mae",
    anchors=VIT_ANCHORS,
    marks=("vit.embeddings.*", "decoder.decoder_*"),
    renames=_RENAMES,
    steps=("join_qkv",),
    drops=POOLER,
    norm=IMAGENET,
    norm_eps=1e-12,
    archs=("zoo", "timm:vit_*_patch{patch}_{image}"),
    model_types=("vit_mae",),
)
MSN = Format(
    name="hf-vit-msn",
    project="transformers ViTMSN",
    link=LINK,
    method="msn",
    anchors=VIT_ANCHORS,
    marks=("vit_msn.*",),
    renames=_RENAMES,
    steps=("join_qkv",),
    drops=POOLER,
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("zoo", "timm:vit_*_patch{patch}_{image}"),
    model_types=("vit_msn",),
)
DEIT = Format(
    name="hf-deit",
    project="transformers DeiT",
    link=LINK,
    method="supervised",
    anchors=VIT_ANCHORS,
    marks=("*embeddings.distillation_token",),
    renames=_RENAMES,
    steps=("join_qkv",),
    drops=POOLER,
    norm=IMAGENET,
    norm_eps=1e-12,
    archs=("timm:deit_*_distilled_patch{patch}_{image}",),
    model_types=("deit",),
)
IJEPA = Format(
    name="hf-ijepa",
    project="transformers I-JEPA",
    link=LINK,
    method="ijepa",
    anchors=VIT_ANCHORS,
    marks=("ijepa.*",),
    renames=_RENAMES,
    steps=("join_qkv",),
    drops=POOLER,
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("timm:vit_*_patch{patch}_gap_{image}",),
    model_types=("ijepa",),
)
