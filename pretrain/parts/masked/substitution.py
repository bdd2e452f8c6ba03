"""Masked tokens in whole backbones: a learned token takes the place of masked patch embeddings."""

from typing import Any

import torch
from torch import Tensor, nn

from backbones.base.errors import UserError
from backbones.features import Backbone
from backbones.timm_networks.beit import BeitBackbone
from backbones.timm_networks.families import SwinBackbone
from backbones.vit.network import VisionTransformer
from pretrain.parts.masked.tokens import patch_positions


def patch_projection(backbone: Backbone) -> nn.Conv2d:
    """Return the convolution that embeds patches.

    Raises:
        UserError: ``encode_substituted`` does not know this kind of network.
    """
    if not isinstance(backbone, (SwinBackbone, BeitBackbone, VisionTransformer)):
        raise UserError(
            "simmim replaces embedded patches, which it cannot do in a "
            f"{type(backbone).__name__}; take a Swin, a BEiT or one of the zoo's ViTs."
        )
    net: Any = getattr(backbone, "net", backbone)
    projection: nn.Conv2d = net.patch_embed.proj
    return projection


def encode_substituted(backbone: Backbone, images: Tensor, mask: Tensor, token: Tensor) -> Tensor:
    """Return the last map of images whose masked patches are replaced, final norm applied.

    The token goes in before positions are added.

    Args:
        backbone: One that ``patch_projection`` takes.
        images: (B, 3, H, W), whole strides.
        mask: (B, rows, columns) bool, a cell an embedded patch.
        token: (1, 1, channels).

    Returns:
        (B, C, H / last stride, W / last stride).
    """
    if isinstance(backbone, SwinBackbone):
        return _encode_swin(backbone.net, images, mask, token)
    if isinstance(backbone, BeitBackbone):
        patches, grid = backbone.embed(images)
        outputs = backbone.encode(_replace(patches, mask, token), grid)
        tokens = backbone.net.norm(outputs[-1])[:, 1:]
    else:
        assert isinstance(backbone, VisionTransformer)
        tokens = _encode_vit(backbone, images, mask, token)
    last_map: Tensor = tokens.transpose(1, 2).unflatten(2, mask.shape[1:])
    return last_map


def _encode_swin(net: Any, images: Tensor, mask: Tensor, token: Tensor) -> Tensor:
    """Return Swin's last map, (B, C, h, w), of images under a (B, rows, columns) mask."""
    embedded = net.patch_embed(images)
    replaced = torch.where(mask[..., None], token.to(embedded.dtype), embedded)
    out: Tensor = net.norm(net.layers(replaced)).permute(0, 3, 1, 2)
    return out


def _encode_vit(vit: VisionTransformer, images: Tensor, mask: Tensor, token: Tensor) -> Tensor:
    """Return a ViT's patch tokens, (B, N, C), of images under a (B, rows, columns) mask."""
    grid = (mask.shape[1], mask.shape[2])
    patches = _replace(vit.patch_embed(images).flatten(2).transpose(1, 2), mask, token)
    positions = patch_positions(vit, grid)
    patches = patches if positions is None else patches + positions
    tokens = vit.encode(vit.prepend_prefix(patches), grid)
    normed: Tensor = vit.norm(tokens[:, vit.num_prefix :])
    return normed


def _replace(patches: Tensor, mask: Tensor, token: Tensor) -> Tensor:
    """Return (B, N, C) patches with the token at masked cells of (B, rows, columns), (B, N, C)."""
    return torch.where(mask.flatten(1)[..., None], token.to(patches.dtype), patches)
