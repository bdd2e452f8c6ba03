"""OpenCLIP's and OpenAI's image towers, and those of timm inside OpenCLIP (visual.trunk.)."""

from backbones.weights.layout import CLIP, Format

TOWER = (
    (r"^conv1\.", "patch_embed.proj."),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^transformer\.resblocks\.(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
)

NATIVE = Format(
    name="openclip",
    project="OpenCLIP, image tower",
    link="https://github.com/mlfoundations/open_clip",
    method="clip",
    anchors=("conv1.weight",),
    marks=("*visual.class_embedding", "*visual.conv1.weight", "*visual.ln_pre.weight"),
    renames=TOWER,
    steps=("lead_positions",),
    drops=(("proj", "projection to the space of texts"),),
    norm=CLIP,
    norm_eps=1e-5,
    archs=("timm:vit_*_patch*_clip_224", "timm:vit_*_patch*_clip_336"),
)
OPENAI = Format(
    name="openai-clip",
    project="OpenAI CLIP, image tower",
    link="https://github.com/openai/CLIP",
    licence="MIT",
    method="clip",
    anchors=("conv1.weight",),
    # The scalars stand in its files next to the weights (clip/model.py, build_model).
    marks=("*visual.class_embedding", "*visual.conv1.weight", "input_resolution", "vocab_size"),
    renames=TOWER,
    steps=("lead_positions",),
    drops=(("proj", "projection to the space of texts"),),
    norm=CLIP,
    norm_eps=1e-5,
    activation="quick_gelu",
    archs=("timm:vit_*_patch*_clip_quickgelu_*", "timm:vit_base_patch32_clip_224"),
)
TRUNK = Format(
    name="openclip-timm",
    project="OpenCLIP, image tower of timm",
    link="https://github.com/mlfoundations/open_clip",
    method="clip",
    marks=("*visual.trunk.*",),
    norm=CLIP,
    archs=("zoo",),
)
