"""The shape of a plain ViT."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ViTConfig:
    """A ViT's shape; every size can be built.

    Attributes:
        embed_dim: Channels of a token.
        num_layers: Blocks.
        num_heads: Divides ``embed_dim``.
        patch_size: Side of a patch in pixels.
        mlp_ratio: Hidden channels of the MLP over ``embed_dim``.
        cls_token: Prepends a class token.
        num_registers: Register tokens behind the class token (Darcet et al. 2023).
        positions: Absolute positions added to the patches: "learned", MAE's fixed "sincos" (kept
            in the state dict, not trained) or "none".
        prefix_positions: Which prefix tokens have a row of their own in front of the position
            table: "none", the "cls" token alone (MAE, DINO), or "all" (timm's default with
            registers).
        irpe: Adds LoMaR's relative positions to attention; takes the place of
            ``BuildOptions.relative_positions``.
        layer_scale: Initial value of LayerScale; None for no LayerScale.
        qkv_bias: Gives queries, keys and values a bias.
        pooling: ``Features.pooled`` is the "cls" token or the "mean" over patches.
        final_norm: Normalises the last block's tokens (never the maps).
    """

    embed_dim: int
    num_layers: int
    num_heads: int
    patch_size: int = 16
    mlp_ratio: float = 4.0
    cls_token: bool = True
    num_registers: int = 0
    positions: Literal["learned", "sincos", "none"] = "learned"
    prefix_positions: Literal["none", "cls", "all"] = "cls"
    irpe: bool = False
    layer_scale: float | None = None
    qkv_bias: bool = True
    pooling: Literal["cls", "mean"] = "cls"
    final_norm: bool = True

    def __post_init__(self) -> None:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"{self.num_heads} heads do not divide embed_dim {self.embed_dim}")
        if self.pooling == "cls" and not self.cls_token:
            raise ValueError("pooling 'cls' needs the cls token")

    @property
    def num_prefix(self) -> int:
        """Return the number of prefix tokens."""
        return int(self.cls_token) + self.num_registers

    @property
    def num_prefix_positions(self) -> int:
        """Return the number of rows in front of the position table's patch rows."""
        counts = {"none": 0, "cls": int(self.cls_token), "all": self.num_prefix}
        return counts[self.prefix_positions]
