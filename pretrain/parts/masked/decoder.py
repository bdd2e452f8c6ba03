"""MAE's decoder: a small ViT over all patches, the missing ones filled by one learned token."""

from typing import cast

import torch
from torch import Tensor, nn

from backbones.base.errors import UserError
from backbones.spec import BuildOptions
from backbones.vit.block import NORM_EPS, Block, pick
from backbones.vit.config import ViTConfig
from backbones.vit.positions import Grid, resize_positions, sincos_table


class Decoder(nn.Module):
    """Predicts values of patches from the backbone's tokens.

    Attributes:
        mask_token: (1, 1, embed_dim), stands for every patch that the backbone has not seen; None
            where the backbone sees mask tokens itself.
        pos_embed: Fixed sin-cos table with one row of zeros for the cls token.
    """

    pos_embed: Tensor

    def __init__(
        self,
        shape: ViTConfig,
        in_channels: int,
        num_values: int,
        side: int,
        fills: bool = True,
    ) -> None:
        """Make a decoder with fresh weights.

        Args:
            shape: Width, depth and heads; its prefix is one cls token or none, like the backbone's.
            in_channels: Channels of the backbone's tokens.
            num_values: Values predicted a patch.
            side: Of the square grid that the position table is made for.
            fills: Whether tokens are missing and have to be filled in.
        """
        super().__init__()
        dim = shape.embed_dim
        if dim % 4:
            raise UserError(
                f"A decoder {dim} wide cannot have sin-cos positions; make model.decoder_dim a "
                "multiple of 4."
            )
        self.num_prefix = shape.num_prefix
        self.embed = nn.Linear(in_channels, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim)) if fills else None
        self.register_buffer("pos_embed", sincos_table(dim, (side, side), shape.num_prefix))
        options = BuildOptions()
        self.blocks = nn.ModuleList(Block(shape, i, options, side) for i in range(shape.num_layers))
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.pred = nn.Linear(dim, num_values)

    def forward(self, tokens: Tensor, visible: Tensor | None, wanted: Tensor, grid: Grid) -> Tensor:
        """Predict.

        Args:
            tokens: (B, num_prefix + V, C) from the backbone, final norm applied.
            visible: (B * V,) flat index into the (B * N) patches of the batch; None where the
                tokens are all N patches in raster order.
            wanted: (B * M,) flat index of the patches to be predicted, M of each image in turn.
            grid: Rows and columns of patches.

        Returns:
            (B * M, num_values).
        """
        batch, length = len(tokens), grid[0] * grid[1]
        embedded = self.embed(tokens)
        patches = embedded[:, self.num_prefix :].flatten(0, 1)
        if visible is not None:
            assert self.mask_token is not None
            filled = self.mask_token.to(patches.dtype).expand(batch, length, -1).flatten(0, 1)
            patches = filled.index_copy(0, visible, patches)
        prefix = embedded[:, : self.num_prefix]
        tokens = torch.cat([prefix, patches.view(batch, length, -1)], dim=1)
        tokens = tokens + self._positions(grid)
        wanted = self._behind_prefix(wanted, length)
        for block in self.blocks[:-1]:
            tokens = block(tokens, grid)
        # Nothing else that the last block makes would reach the prediction.
        if self.blocks:
            last = cast(Block, self.blocks[-1])
            tokens = last.forward_some(tokens, wanted)
        else:
            tokens = pick(tokens, wanted)
        out: Tensor = self.pred(self.norm(tokens.flatten(0, 1)))
        return out

    def _behind_prefix(self, wanted: Tensor, length: int) -> Tensor:
        """Return the index into all tokens of the batch, (B * M,), from one into its patches."""
        return wanted + (wanted // length + 1) * self.num_prefix

    def _positions(self, grid: Grid) -> Tensor:
        """Return the positions of prefix and N patches of a grid, (1, num_prefix + N, dim)."""
        front = self.pos_embed[:, : self.num_prefix]
        patches = resize_positions(self.pos_embed[:, self.num_prefix :], grid)
        return torch.cat([front, patches], dim=1)
