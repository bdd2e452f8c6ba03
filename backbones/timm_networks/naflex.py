"""timm's NaFlex ViTs (SigLIP 2 NaFlex, RADIO) for dense prediction, by the rules of ViTDet.

A NaFlex ViT is a plain ViT whose patches may come from images of any aspect. Under a detector its
patches are a map like those of other plain ViTs: each is a row of pixels for the linear projection,
and the position table keeps its pretraining size.
"""

from typing import Any

from torch import Tensor

from backbones.timm_networks.plain import DensePlainBackbone
from backbones.timm_networks.windows import can_attend_on_maps
from backbones.vit.positions import place_positions, table_in_words


def can_be_dense_naflex(net: Any) -> bool:
    """Return whether a timm network is a NaFlex ViT whose attention can be put into windows."""
    if type(net).__name__ != "NaFlexVit" or net.rope_is_mixed:
        return False
    embeds = net.embeds
    grid = embeds.pos_embed_grid_size
    table = embeds.pos_embed_type == "none" or (
        embeds.pos_embed_type == "learned" and grid is not None and grid[0] == grid[1]
    )
    blocks = all(type(block).__name__ == "Block" for block in net.blocks)
    return table and blocks and all(can_attend_on_maps(block.attn) for block in net.blocks)


class DenseNaFlexBackbone(DensePlainBackbone):
    """A NaFlex ViT under a detector; prefix tokens take no part."""

    def absolute_positions(self) -> str:
        """Return the size of the position table."""
        table = self.net.embeds.pos_embed
        return "none" if table is None else table_in_words(table.shape[1], self._tiled)

    def _embed(self, images: Tensor) -> Tensor:
        """Return the patches of (B, 3, H, W) images with positions, (B, rows, columns, C)."""
        embeds = self.net.embeds
        tokens = self._patches(self._pad(images))
        if embeds.pos_embed is not None:
            grid = (tokens.shape[1], tokens.shape[2])
            placed = place_positions(embeds.pos_embed.flatten(1, 2), grid, self._tiled)
            tokens = tokens + placed.view(1, *grid, -1)
        out: Tensor = self.net.norm_pre(embeds.pos_drop(tokens))
        return out

    def _patches(self, images: Tensor) -> Tensor:
        """Return the projected patches of (B, 3, H, W) images, (B, rows, columns, C)."""
        embeds = self.net.embeds
        high, wide = embeds.patch_size
        if not embeds.is_linear:
            normed: Tensor = embeds.norm(embeds.proj(images).permute(0, 2, 3, 1))
            return normed
        batch, colours, height, width = images.shape
        pixels = images.reshape(batch, colours, height // high, high, width // wide, wide)
        order = (0, 2, 4, 3, 5, 1) if embeds.channels_last else (0, 2, 4, 1, 3, 5)
        pixels = pixels.permute(order).flatten(3)
        if embeds.norm_input is not None:
            pixels = embeds.norm_input(pixels)
        out: Tensor = embeds.norm(embeds.proj(pixels))
        return out
