"""OpenMMLab (mmdetection, mmpretrain, mmselfsup): Swin and ConvNeXt under its own names.

Its ResNets, and its ViTs of other projects, keep torchvision's and timm's names behind
``backbone.``, which the format timm finds.
"""

from backbones.weights.layout import IMAGENET, Format

SWIN = Format(
    name="openmmlab-swin",
    project="OpenMMLab, Swin",
    link="https://github.com/open-mmlab/mmpretrain",
    licence="Apache-2.0",
    anchors=("patch_embed.projection.weight",),
    marks=("*stages.0.blocks.0.attn.w_msa.qkv.weight",),
    renames=(
        (r"^patch_embed\.projection\.", "patch_embed.proj."),
        (r"^stages\.", "layers."),
        (r"\.attn\.w_msa\.", ".attn."),
        (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
        (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
        (r"^norm3\.", "norm."),
    ),
    steps=("unfold_order", "patch_merging"),
    drops=(("norm[012].*", "norms of a detector's feature maps"),),
    norm=IMAGENET,
    archs=("zoo",),
)
CONVNEXT = Format(
    name="openmmlab-convnext",
    project="OpenMMLab, ConvNeXt",
    link="https://github.com/open-mmlab/mmpretrain",
    licence="Apache-2.0",
    anchors=("downsample_layers.0.0.weight", "stem.0.weight"),
    marks=("*depthwise_conv.weight", "*pointwise_conv1.weight"),
    renames=(
        (r"^downsample_layers\.0\.", "stem."),
        (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
        (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
        (r"\.depthwise_conv\.", ".conv_dw."),
        (r"\.pointwise_conv([12])\.", r".mlp.fc\1."),
        (r"\.grn\.gamma$", ".mlp.grn.weight"),
        (r"\.grn\.beta$", ".mlp.grn.bias"),
        (r"^norm3\.", "head.norm."),
    ),
    drops=(("norm[012].*", "norms of a detector's feature maps"),),
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("timm:convnext_*", "timm:convnextv2_*"),
)
VIT = Format(
    name="openmmlab-vit",
    project="OpenMMLab, ViT",
    link="https://github.com/open-mmlab/mmpretrain",
    licence="Apache-2.0",
    anchors=("patch_embed.projection.weight",),
    marks=("*layers.0.ln1.weight", "*layers.0.ffn.layers.0.0.weight"),
    renames=(
        (r"^patch_embed\.projection\.", "patch_embed.proj."),
        (r"^layers\.(\d+)\.", r"blocks.\1."),
        (r"\.ln([12])\.", r".norm\1."),
        (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
        (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
        (r"\.gamma([12])\.weight$", r".gamma_\1"),
        (r"^ln1\.", "norm."),
        (r"^ln2\.", "fc_norm."),
    ),
    norm=IMAGENET,
    norm_eps=1e-6,
    archs=("zoo",),
)
