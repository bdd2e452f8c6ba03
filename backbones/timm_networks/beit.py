"""BEiT: timm's network, with its relative position biases on any grid."""

import re
from typing import Any

import torch
from timm.layers import gen_relative_position_index
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones.features import Features
from backbones.timm_networks.backbone import TimmBackbone
from backbones.timm_networks.tables import resize_geometric
from backbones.vit.positions import Grid

# What ``BeitBackbone`` asks of timm: no biases of timm's own, and the final norm in its place.
BEIT_ARGUMENTS = {"use_rel_pos_bias": False, "use_abs_pos_emb": False, "global_pool": "token"}

_TABLE = re.compile(r"blocks\.(\d+)\.attn\.relative_position_bias_table")


class BeitBackbone(TimmBackbone):
    """BEiT at any input size.

    timm fixes the grid of the biases when it builds the network. Here the network is built without
    them and its blocks are handed the bias of the grid at hand, from tables that are parameters of
    this class. Pooled is the mean of the normed patch tokens: pretraining gives the cls token no
    loss.

    Attributes:
        grid: Rows and columns of patches that the tables are made for.
        bias_tables: One ((2 * rows - 1) * (2 * columns - 1) + 3, heads) a block.
    """

    def __init__(self, net: Any) -> None:
        """Wrap a timm BEiT built without classifier, fc_norm and relative positions."""
        super().__init__(net)
        net.patch_embed.strict_img_size = False
        self.grid: Grid = net.patch_embed.grid_size
        rows = (2 * self.grid[0] - 1) * (2 * self.grid[1] - 1) + 3
        heads = net.blocks[0].attn.num_heads
        self.bias_tables = nn.ParameterList(torch.zeros(rows, heads) for _ in net.blocks)
        self._layer_ids |= {f"bias_tables.{i}": i + 1 for i in range(len(net.blocks))}
        self._recompute = False

    def forward(self, images: Tensor, num_last_blocks: int = 0) -> Features:
        """Return the features of a batch; see ``Backbone.forward``."""
        outputs, grid = self._encode(images)
        last = outputs[len(outputs) - max(num_last_blocks, 1) :]
        normed = [self.net.norm(tokens) for tokens in last]
        kept = normed[len(normed) - num_last_blocks :] if num_last_blocks else []
        return Features(
            # ``fc_norm`` does nothing unless the weights have one; the norm is then nothing.
            pooled=self.net.fc_norm(normed[-1][:, 1:].mean(dim=1)),
            maps=(_as_map(outputs[-1], grid),),
            prefix_tokens=tuple(tokens[:, :1] for tokens in kept),
            patch_tokens=tuple(tokens[:, 1:] for tokens in kept),
        )

    def forward_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return only ``maps``; see ``Backbone.forward_maps``."""
        outputs, grid = self._encode(images)
        return (_as_map(outputs[-1], grid),)

    def no_weight_decay(self) -> frozenset[str]:
        """Return the cls token, positions and bias tables, as BEiT's fine-tuning spares them."""
        tables = {f"bias_tables.{i}" for i in range(len(self.bias_tables))}
        return super().no_weight_decay() | tables

    def set_activation_checkpointing(self, enabled: bool) -> None:
        """Recompute the blocks in the backward pass."""
        self._recompute = enabled

    def own_name(self, timm_name: str) -> str:
        """Return the name in this module of what timm calls ``timm_name``."""
        table = _TABLE.fullmatch(timm_name)
        return f"bias_tables.{table[1]}" if table else super().own_name(timm_name)

    def embed(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Return the embedded patches, (B, N, C), of images, and the grid that they form."""
        padded = self._pad(images)
        patch = self.strides[0]
        grid = (padded.shape[-2] // patch, padded.shape[-1] // patch)
        return self.net.patch_embed(padded), grid

    def encode(self, patches: Tensor, grid: Grid) -> list[Tensor]:
        """Return the tokens behind every block, cls first, without the final norm.

        Args:
            patches: (B, rows * columns, C), embedded.
            grid: Rows and columns.
        """
        prefix = self.net.cls_token.expand(len(patches), -1, -1)
        tokens = torch.cat([prefix, patches], dim=1)
        index = gen_relative_position_index(grid, class_token=True, device=tokens.device)
        outputs = []
        for block, table in zip(self.net.blocks, self.bias_tables, strict=True):
            arguments = (block, tokens, table, grid, index)
            if self._recompute and torch.is_grad_enabled():
                tokens = checkpoint(self._block, *arguments, use_reentrant=False)
            else:
                tokens = self._block(*arguments)
            outputs.append(tokens)
        return outputs

    def _encode(self, images: Tensor) -> tuple[list[Tensor], Grid]:
        """Return (B, 1 + N, C) tokens behind every block, and the grid, of (B, 3, H, W) images."""
        patches, grid = self.embed(images)
        return self.encode(patches, grid), grid

    def _block(
        self, block: nn.Module, tokens: Tensor, table: Tensor, grid: Grid, index: Tensor
    ) -> Tensor:
        """Return (B, 1 + N, C) tokens after a block with the bias of a table, (offsets, heads)."""
        rows = resize_geometric(table, self.grid, grid)
        bias = rows[index].permute(2, 0, 1)[None].to(tokens.dtype)
        output: Tensor = block(tokens, shared_rel_pos_bias=bias)
        return output


def _as_map(tokens: Tensor, grid: Grid) -> Tensor:
    """Return (B, C, rows, columns) of tokens with one prefix token."""
    batch, _, channels = tokens.shape
    return tokens[:, 1:].transpose(1, 2).reshape(batch, channels, *grid)
