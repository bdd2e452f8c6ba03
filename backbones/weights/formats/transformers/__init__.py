"""Formats of the transformers library: folders or files of ``save_pretrained``."""

# Names inside the blocks of ViT and its kin, behind ``encoder.layer.N.``. From 5.0 on, the models
# themselves have the newer names, which ``save_pretrained`` turns back; trainers save them as such.
VIT_BLOCKS = (
    (r"^layers\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.attention\.(q)uery\.", r".attn.\1."),
    (r"\.attention\.attention\.(k)ey\.", r".attn.\1."),
    (r"\.attention\.attention\.(v)alue\.", r".attn.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
)
VIT_AROUND = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.(\w+_tokens?)$", r"\1"),
    (r"^register_tokens$", "reg_token"),
    (r"^layernorm\.", "norm."),
)
VIT_ANCHORS = ("embeddings.patch_embeddings.projection.weight",)
POOLER = (("pooler.*", "pooling layer for text tasks"),)
LINK = "https://huggingface.co/docs/transformers"
