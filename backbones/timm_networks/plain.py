"""timm's plain ViTs for dense prediction, by the rules of ViTDet.

The same rules as ``backbones.vit.network`` has for its dense networks: prefix tokens take no part,
the position table keeps its pretraining size and is interpolated in every forward, and attention is
global or inside windows, with decomposed relative positions where the network brings no relative
positions of its own.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.layers import gen_relative_position_index
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones.features import BlockAttention, Features
from backbones.spec import BuildOptions
from backbones.timm_networks.backbone import TimmBackbone, own_relative
from backbones.timm_networks.beit import BeitBackbone
from backbones.timm_networks.tables import resize_geometric
from backbones.timm_networks.windows import attend_on_maps, can_attend_on_maps
from backbones.vit.positions import Grid, place_positions, table_in_words
from backbones.vit.windows_rule import global_blocks

# timm's classes whose forward is: embed patches, add positions, run the blocks one by one.
_PLAIN = ("VisionTransformer", "VisionTransformerDistilled", "Eva", "Beit")
# Hybrids have convolutions in front of the blocks (ViTamin, R50+ViT); they count as the stem.
_EMBEDDINGS = ("PatchEmbed", "HybridEmbed")
_BLOCKS = ("Block", "ResPostBlock", "EvaBlock", "EvaBlockPostNorm")


def is_dense(options: BuildOptions) -> bool:
    """Return whether a use asks for ViTDet's kind of attention."""
    return options.window_size > 0 or options.relative_positions


def can_be_dense(net: Any) -> bool:
    """Return whether a timm network is a plain ViT whose attention can be put into windows."""
    if type(net).__name__ not in _PLAIN:
        return False
    simple = type(net.patch_embed).__name__ in _EMBEDDINGS and type(net.blocks[0]).__name__
    return simple in _BLOCKS and all(can_attend_on_maps(block.attn) for block in net.blocks)


class DensePlainBackbone(TimmBackbone):
    """A plain ViT of timm under a detector.

    ``maps`` is one map, the last block's tokens without the final norm; ``pooled`` is the mean of
    the normed tokens. Rotary positions treat a window as an image of its size: the network computes
    them for that grid as it does for any other (EVA-02's and Perception Encoder's detection code).
    """

    def __init__(self, net: Any, options: BuildOptions) -> None:
        """Wrap a network built at its own image size, without classifier.

        Args:
            net: One that ``can_be_dense``.
            options: Windows, global blocks and relative positions.
        """
        side = math.ceil(options.img_size / net.feature_info[-1]["reduction"])
        everywhere = global_blocks(len(net.blocks), options)
        for index, block in enumerate(net.blocks):
            window = 0 if index in everywhere else options.window_size
            relative = options.relative_positions and own_relative(net, block) == "none"
            attend_on_maps(block.attn, window, (window or side) if relative else 0)
        super().__init__(net)
        self._tiled = options.tile_positions
        self._recompute = False

    def forward(self, images: Tensor, num_last_blocks: int = 0) -> Features:
        """Return the features of a batch; see ``Backbone.forward``."""
        return _features(self.net.norm, self._encode(images), num_last_blocks)

    def forward_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return only ``maps``; see ``Backbone.forward_maps``."""
        return (self._encode(images)[-1].permute(0, 3, 1, 2),)

    def set_activation_checkpointing(self, enabled: bool) -> None:
        """Recompute the blocks in the backward pass."""
        self._recompute = enabled

    def block_attention(self) -> tuple[BlockAttention, ...]:
        """Return how each block attends; see ``Backbone.block_attention``."""
        return tuple(
            BlockAttention(block.attn.window, own_relative(self.net, block))
            for block in self.net.blocks
        )

    def absolute_positions(self) -> str:
        """Return the size of the position table."""
        if self.net.pos_embed is None:
            return "none"
        return table_in_words(math.isqrt(self.net.pos_embed.shape[1]), self._tiled)

    def _encode(self, images: Tensor) -> list[Tensor]:
        """Return what leaves every block, each (B, rows, columns, C), without the final norm."""
        tokens = self._embed(images)
        relative = self._relative_to((tokens.shape[1], tokens.shape[2]))
        outputs = []
        for index, block in enumerate(self.net.blocks):
            tokens = self._block(block, tokens, relative(index, block.attn.window))
            outputs.append(tokens)
        return outputs

    def _embed(self, images: Tensor) -> Tensor:
        """Return the patches of (B, 3, H, W) images with positions, (B, rows, columns, C)."""
        net = self.net
        tokens: Tensor = net.patch_embed(self._pad(images))
        if net.pos_embed is not None:
            grid = (tokens.shape[1], tokens.shape[2])
            prefix = 0 if net.no_embed_class else net.num_prefix_tokens
            placed = place_positions(net.pos_embed[:, prefix:], grid, self._tiled)
            tokens = tokens + placed.view(1, *grid, -1)
        out: Tensor = net.norm_pre(net.pos_drop(tokens))
        return out

    def _relative_to(self, grid: Grid) -> Callable[[int, int], dict[str, Tensor]]:
        """Return what gives block i with windows of w tokens its keyword arguments, of (i, w)."""
        rope = getattr(self.net, "rope", None)
        if rope is None:
            return lambda index, window: {}
        embeddings = once_per_grid(lambda side: rope.get_embed(shape=list(side)), grid)
        if getattr(self.net, "rope_mixed", False):
            return lambda index, window: {"rope": embeddings(window)[index]}
        return lambda index, window: {"rope": embeddings(window)}

    def _block(self, block: nn.Module, tokens: Tensor, further: dict[str, Tensor]) -> Tensor:
        """Return (B, rows, columns, C) tokens after a block, which may be recomputed."""
        if self._recompute and torch.is_grad_enabled():
            run = partial(block, **further)
            recomputed: Tensor = checkpoint(run, tokens, use_reentrant=False)
            return recomputed
        out: Tensor = block(tokens, **further)
        return out


class DenseBeitBackbone(BeitBackbone):
    """BEiT under a detector: each block has the bias of its window or of the whole grid.

    The cls token takes no part; ``pooled`` is the mean of the normed patch tokens, as it is
    elsewhere. The tables keep their pretraining size.
    """

    def __init__(self, net: Any, options: BuildOptions) -> None:
        """Wrap a network built at its own image size; see ``BeitBackbone``.

        Args:
            net: A timm BEiT.
            options: Windows and global blocks.
        """
        everywhere = global_blocks(len(net.blocks), options)
        for index, block in enumerate(net.blocks):
            attend_on_maps(block.attn, 0 if index in everywhere else options.window_size, 0)
        super().__init__(net)

    def forward(self, images: Tensor, num_last_blocks: int = 0) -> Features:
        """Return the features of a batch; see ``Backbone.forward``."""
        return _features(self.net.norm, self._outputs(images), num_last_blocks)

    def forward_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return only ``maps``; see ``Backbone.forward_maps``."""
        return (self._outputs(images)[-1].permute(0, 3, 1, 2),)

    def block_attention(self) -> tuple[BlockAttention, ...]:
        """Return how each block attends; see ``Backbone.block_attention``."""
        return tuple(BlockAttention(block.attn.window, "bias table") for block in self.net.blocks)

    def _outputs(self, images: Tensor) -> list[Tensor]:
        """Return what leaves every block, each (B, rows, columns, C), of (B, 3, H, W) images."""
        patches, grid = self.embed(images)
        tokens = patches.view(len(patches), *grid, -1)
        outputs = []
        for block, table in zip(self.net.blocks, self.bias_tables, strict=True):
            window = block.attn.window
            arguments = (block, tokens, table, (window, window) if window else grid)
            if self._recompute and torch.is_grad_enabled():
                tokens = checkpoint(self._on_map, *arguments, use_reentrant=False)
            else:
                tokens = self._on_map(*arguments)
            outputs.append(tokens)
        return outputs

    def _on_map(self, block: nn.Module, tokens: Tensor, table: Tensor, grid: Grid) -> Tensor:
        """Return (B, rows, columns, C) tokens after a block with the bias of its table."""
        index = gen_relative_position_index(grid, class_token=False, device=tokens.device)
        rows = resize_geometric(table, self.grid, grid)
        bias = rows[index].permute(2, 0, 1)[None].to(tokens.dtype)
        output: Tensor = block(tokens, shared_rel_pos_bias=bias)
        return output


def _features(norm: Any, outputs: list[Tensor], num_last_blocks: int) -> Features:
    """Return the features of blocks' outputs, each (B, rows, columns, C)."""
    normed = [norm(tokens) for tokens in outputs[-max(num_last_blocks, 1) :]]
    kept = normed if num_last_blocks else []
    return Features(
        pooled=normed[-1].mean(dim=(1, 2)),
        maps=(outputs[-1].permute(0, 3, 1, 2),),
        prefix_tokens=tuple(t.new_zeros(len(t), 0, t.shape[-1]) for t in kept),
        patch_tokens=tuple(tokens.flatten(1, 2) for tokens in kept),
    )


def once_per_grid(make: Callable[[Grid], Tensor], grid: Grid) -> Callable[[int], Tensor]:
    """Return what gives blocks with windows of w tokens the result of ``make``, computed once.

    Args:
        make: Computes it for the rows and columns that attend to each other.
        grid: Rows and columns of the whole map, for blocks without windows (w = 0).
    """
    made: dict[int, Tensor] = {}

    def of(window: int) -> Tensor:
        if window not in made:
            made[window] = make((window, window) if window else grid)
        return made[window]

    return of
