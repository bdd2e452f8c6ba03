"""JAX's Vision Transformer: kernels are (in, out), heads have a dimension of their own."""

import re

from torch import Tensor

from backbones.features import Backbone

State = dict[str, Tensor]

_RENAMES = (
    (r"^cls$", "cls_token"),
    (r"^embedding/", "patch_embed.proj/"),
    (r"^(Transformer/posembed_input/)?pos_embedding$", "pos_embed"),
    (r"^Transformer/encoder_norm/", "norm/"),
    (r"^Transformer/encoderblock_(\d+)/", r"blocks.\1/"),
    (r"/LayerNorm_0/", ".norm1/"),
    # The MLP took the number of the second norm's neighbour: 2 or, in big_vision, 1.
    (r"/LayerNorm_[12]/", ".norm2/"),
    (r"/MultiHeadDotProductAttention_\d/(q)uery/", r".attn.\1/"),
    (r"/MultiHeadDotProductAttention_\d/(k)ey/", r".attn.\1/"),
    (r"/MultiHeadDotProductAttention_\d/(v)alue/", r".attn.\1/"),
    (r"/MultiHeadDotProductAttention_\d/out/", ".attn.proj/"),
    (r"/MlpBlock_\d/Dense_0/", ".mlp.fc1/"),
    (r"/MlpBlock_\d/Dense_1/", ".mlp.fc2/"),
    (r"/(kernel|scale)$", ".weight"),
    (r"/bias$", ".bias"),
)


def jax_vit(state: State, backbone: Backbone) -> State:
    """Give the arrays of JAX's ViT timm's names and orders of dimensions.

    Source: google-research/vision_transformer ``vit_jax/models_vit.py`` (flax modules).
    """
    return dict(_converted(name, tensor) for name, tensor in state.items())


def _converted(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    to = name
    for pattern, replacement in _RENAMES:
        to = re.sub(pattern, replacement, to)
    if name.endswith("/kernel"):
        return to, _kernel(to, tensor)
    # Biases of queries, keys and values are (heads, channels of a head).
    return to, tensor.flatten() if name.endswith("/bias") else tensor


def _kernel(name: str, tensor: Tensor) -> Tensor:
    """Return a kernel with its outputs in front."""
    if tensor.ndim == 4:  # (rows, columns, in, out)
        return tensor.permute(3, 2, 0, 1)
    if tensor.ndim == 3:  # (in, heads, channels), and (heads, channels, out) behind the heads
        tensor = tensor.flatten(0, 1) if ".proj." in name else tensor.flatten(1)
    return tensor.transpose(0, 1) if tensor.ndim == 2 else tensor
