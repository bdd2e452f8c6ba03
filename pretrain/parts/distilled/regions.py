"""Regions of an image: the cells of a backbone's last map, as its pooled features see them."""

from torch import Tensor

from backbones.features import Backbone
from backbones.timm_networks.backbone import TimmBackbone
from backbones.timm_networks.families import SwinBackbone
from backbones.timm_networks.heads import head_norms


def pooled_channels(backbone: Backbone) -> int:
    """Return the length of a backbone's pooled features.

    A few of timm's networks widen the last map before they pool.
    """
    if isinstance(backbone, TimmBackbone):
        width: int = getattr(backbone.net, "head_hidden_size", backbone.net.num_features)
        return width * max(1, len(head_norms(backbone.net)))
    return backbone.channels[-1]


def encode_regions(backbone: Backbone, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return pooled features and regions.

    Regions have the final norm applied where the backbone has one in front of its pooling: ViT's
    patch tokens, the tokens of Swin's last stage. Of any other network they are the last map.

    Args:
        backbone: Of either layout.
        images: (B, 3, H, W).

    Returns:
        (B, D) and (B, rows * columns, C), raster order.
    """
    if isinstance(backbone, SwinBackbone):
        features = backbone(images)
        # Asked for tokens, it would run block by block and never recompute activations.
        return features.pooled, backbone.net.norm(_cells(features.maps[-1]))
    features = backbone(images, num_last_blocks=1)
    tokens = features.patch_tokens
    return features.pooled, tokens[-1] if tokens else _cells(features.maps[-1])


def _cells(image: Tensor) -> Tensor:
    """Return the cells of (B, C, H, W) maps in raster order, (B, H * W, C)."""
    return image.flatten(2).transpose(1, 2)
