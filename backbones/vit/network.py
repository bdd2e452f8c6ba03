"""The plain vision transformer: one class for pretraining, ImageNet and detection.

Parameter names are those of timm and MAE, so that their checkpoints load without a key map.
"""

import math
from typing import Any

import torch
from timm.layers import PatchEmbed, trunc_normal_
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones.features import Backbone, BlockAttention, Features
from backbones.spec import BuildOptions
from backbones.vit.block import NORM_EPS, Block
from backbones.vit.config import ViTConfig
from backbones.vit.positions import (
    Grid,
    place_positions,
    resize_positions,
    sincos_table,
    table_in_words,
)
from backbones.vit.positions_rule import BICUBIC

__all__ = ["ViTConfig", "VisionTransformer"]


class VisionTransformer(Backbone):
    """A plain ViT.

    Two ways to be built, told apart by the options:

    * For images as such: every block attends to all tokens, prefix tokens included.
    * For dense prediction, with windows or decomposed relative positions, as ViTDet: prefix tokens
      do not take part, ``pooled`` is the mean over patches. Their values and the
      rows of the position table stay in the state dict (as buffers), so that checkpoints load
      strictly and no parameter is without gradient.

    ``maps`` is one map, the last block's patches *without* the final norm, as ViTDet has it;
    ``pooled``, ``prefix_tokens`` and ``patch_tokens`` have the final norm applied.

    The position table is made for ``BuildOptions.img_size`` and interpolated to the grid at hand
    in every forward. Loading weights takes over the size of *their* table, which then
    stays what it was in pretraining (ViTDet does the same).

    Attributes:
        position_rule: How the table is resized to other image sizes; the method that trained the
            weights sets it. For dense prediction the rule is ViTDet's, whatever the method.
    """

    position_rule = BICUBIC

    cls_token: Tensor | None
    reg_token: Tensor | None
    pos_embed: Tensor | None

    def __init__(self, config: ViTConfig, options: BuildOptions) -> None:
        """Build with fresh weights.

        Args:
            config: The shape.
            options: How this use varies it.
        """
        super().__init__()
        self.config = config
        self.strides = (config.patch_size,)
        self.channels = (config.embed_dim,)
        self.num_layers = config.num_layers
        self.dense = options.window_size > 0 or (options.relative_positions and not config.irpe)
        self.num_prefix = 0 if self.dense else config.num_prefix
        self._checkpointing = False
        self._tiled = options.tile_positions

        self.patch_embed = PatchEmbed(
            img_size=None,
            patch_size=config.patch_size,
            embed_dim=config.embed_dim,
            flatten=False,
            dynamic_img_pad=True,
        )
        side = math.ceil(options.img_size / config.patch_size)
        self._make_prefix()
        self._make_positions(side)
        self.blocks = nn.ModuleList(
            Block(config, i, options, side) for i in range(config.num_layers)
        )
        norm = nn.LayerNorm(config.embed_dim, eps=NORM_EPS)
        self.norm = norm if config.final_norm else nn.Identity()
        self.fc_norm: nn.Module | None = None
        self.apply(_initialise)

    def forward(self, images: Tensor, num_last_blocks: int = 0) -> Features:
        """Return the features of a batch; see ``Backbone.forward`` and the class."""
        patches, grid = self.embed(images)
        tokens = self.prepend_prefix(patches)
        kept: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            tokens = self._run(block, tokens, grid)
            if i >= self.num_layers - num_last_blocks:
                kept.append(self.norm(tokens))
        normed = kept[-1] if kept else self.norm(tokens)
        return Features(
            pooled=self._pool(normed),
            maps=(_to_map(tokens[:, self.num_prefix :], grid),),
            prefix_tokens=tuple(t[:, : self.num_prefix] for t in kept),
            patch_tokens=tuple(t[:, self.num_prefix :] for t in kept),
        )

    def forward_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the last block's patches as a map, without the final norm."""
        patches, grid = self.embed(images)
        tokens = self.encode(self.prepend_prefix(patches), grid)
        return (_to_map(tokens[:, self.num_prefix :], grid),)

    def embed(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Return the patches of images with their positions added, in front of the first block.

        Args:
            images: (B, 3, H, W); padded with zeros right and bottom to whole patches.

        Returns:
            (B, rows * columns, C), raster order, and (rows, columns).
        """
        image = self.patch_embed(images)
        grid = (image.shape[-2], image.shape[-1])
        patches = image.flatten(2).transpose(1, 2)
        if self.pos_embed is not None:
            table = self.pos_embed[:, self.config.num_prefix_positions :]
            rule = BICUBIC if self.dense else self.position_rule
            patches = patches + place_positions(table, grid, self._tiled, rule)
        return patches, grid

    def prepend_prefix(self, patches: Tensor) -> Tensor:
        """Put the prefix tokens, with their positions, in front of (B, N, C) patches.

        Any patches will do: all of an image, a visible subset (MAE), a window (LoMaR).
        """
        if not self.num_prefix:
            return patches
        both = (self.cls_token, self.reg_token)
        prefix = torch.cat([token for token in both if token is not None], dim=1)
        placed = self.config.num_prefix_positions
        if self.pos_embed is not None and placed:
            front = prefix[:, :placed] + self.pos_embed[:, :placed]
            prefix = torch.cat([front, prefix[:, placed:]], dim=1)
        return torch.cat([prefix.expand(len(patches), -1, -1), patches], dim=1)

    def encode(self, tokens: Tensor, grid: Grid | None = None) -> Tensor:
        """Run the blocks, without the final norm (``self.norm``).

        Args:
            tokens: (B, num_prefix + N, C), from ``prepend_prefix``.
            grid: Rows and columns that the patches form. May be None for patches that form no
                grid, as MAE's visible ones, where nothing in the network asks for it.

        Returns:
            Same shape.

        Raises:
            ValueError: No grid, but windows or relative positions.
        """
        for block in self.blocks:
            tokens = self._run(block, tokens, grid)
        return tokens

    def layer_id(self, parameter_name: str) -> int:
        """Return the layer-decay layer; see ``Backbone.layer_id``."""
        if parameter_name not in dict(self.named_parameters()):
            raise KeyError(f"the ViT has no parameter {parameter_name!r}")
        first, *rest = parameter_name.split(".")
        if first == "blocks":
            return int(rest[0]) + 1
        return self.num_layers + 1 if first in ("norm", "fc_norm") else 0

    def no_weight_decay(self) -> frozenset[str]:
        """Return the tokens and positions, as timm's ViT does."""
        names = {name for name, _ in self.named_parameters(recurse=False)}
        return frozenset(names & {"pos_embed", "cls_token", "reg_token"})

    def block_attention(self) -> tuple[BlockAttention, ...]:
        """Return how each block attends; see ``Backbone.block_attention``."""
        return tuple(_attention_of(block.attn) for block in self.blocks)

    def absolute_positions(self) -> str:
        """Return the kind and size of the position table."""
        if self.pos_embed is None:
            return "none"
        side = math.isqrt(self.pos_embed.shape[1] - self.config.num_prefix_positions)
        return table_in_words(side, self._tiled)

    def resize_table(self, img_size: int) -> bool:
        """Resize the position table for good, for training at another size than it was made for.

        As MAE's fine-tuning does (facebookresearch/mae ``util/pos_embed.py``); elsewhere the table
        stays and is interpolated in every forward.

        Args:
            img_size: Side of the images to come, in pixels.

        Returns:
            Whether there was anything to resize.
        """
        side = math.ceil(img_size / self.config.patch_size)
        prefix = self.config.num_prefix_positions
        table = self.pos_embed
        if table is None or table.shape[1] == prefix + side * side:
            return False
        patches = resize_positions(table.detach()[:, prefix:], (side, side), self.position_rule)
        fitted = torch.cat([table.detach()[:, :prefix], patches], dim=1)
        learned = isinstance(table, nn.Parameter)
        self.pos_embed = nn.Parameter(fitted) if learned else fitted
        return True

    def norm_behind_pooling(self) -> None:
        """Move the final norm behind the mean over patches, which is then ``pooled``.

        Networks that were fine-tuned with mean pooling have it there (MAE, ``models_vit.py``).
        """
        if isinstance(self.norm, nn.LayerNorm):
            self.fc_norm, self.norm = self.norm, nn.Identity()

    def set_activation_checkpointing(self, enabled: bool) -> None:
        """Recompute each block's activations in the backward pass."""
        self._checkpointing = enabled

    def _run(self, block: nn.Module, tokens: Tensor, grid: Grid | None) -> Tensor:
        """Return (B, N, C) tokens after a block, which may be recomputed."""
        if self._checkpointing and torch.is_grad_enabled():
            result: Tensor = checkpoint(block, tokens, grid, use_reentrant=False)
            return result
        out: Tensor = block(tokens, grid)
        return out

    def _pool(self, normed: Tensor) -> Tensor:
        """Return the pooled vector, (B, C), of (B, P + N, C) normed tokens."""
        if self.fc_norm is not None:
            pooled: Tensor = self.fc_norm(normed[:, self.num_prefix :].mean(dim=1))
            return pooled
        if self.config.pooling == "cls" and self.num_prefix:
            return normed[:, 0]
        return normed[:, self.num_prefix :].mean(dim=1)

    def _make_prefix(self) -> None:
        config = self.config
        counts = {"cls_token": int(config.cls_token), "reg_token": config.num_registers}
        for name, count in counts.items():
            # Near zero, as timm draws them.
            value = torch.randn(1, count, config.embed_dim) * 1e-6 if count else None
            if self.dense or value is None:
                self.register_buffer(name, value)
            else:
                self.register_parameter(name, nn.Parameter(value))

    def _make_positions(self, side: int) -> None:
        config = self.config
        prefix = config.num_prefix_positions
        if config.positions == "learned":
            table = torch.zeros(1, prefix + side * side, config.embed_dim)
            self.pos_embed = nn.Parameter(trunc_normal_(table, std=0.02))
        elif config.positions == "sincos":
            self.register_buffer("pos_embed", sincos_table(config.embed_dim, (side, side), prefix))
        else:
            self.register_buffer("pos_embed", None)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take over the size of the position table that is about to be loaded."""
        incoming = state_dict.get(prefix + "pos_embed")
        if isinstance(incoming, Tensor) and self.pos_embed is not None:
            self._fit_positions(incoming)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _fit_positions(self, incoming: Tensor) -> None:
        """Make the position table as long as an incoming one, (1, N, C), if that can be ours."""
        assert self.pos_embed is not None
        if incoming.ndim != 3 or incoming.shape == self.pos_embed.shape:
            return
        patches = incoming.shape[1] - self.config.num_prefix_positions
        if patches < 1 or math.isqrt(patches) ** 2 != patches:
            return  # not a table of ours; loading reports the shapes
        table = self.pos_embed.new_zeros(1, incoming.shape[1], self.config.embed_dim)
        learned = isinstance(self.pos_embed, nn.Parameter)
        self.pos_embed = (
            nn.Parameter(table, requires_grad=self.pos_embed.requires_grad) if learned else table
        )


def _attention_of(attention: Any) -> BlockAttention:
    if attention.rpe_k is not None:
        relative = "iRPE"
    else:
        relative = "decomposed" if attention.has_relative else "none"
    return BlockAttention(attention.window_size, relative)


def _initialise(module: nn.Module) -> None:
    """Draw linear weights as timm's and detectron2's ViT do; norms and convolution by default."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _to_map(patches: Tensor, grid: Grid) -> Tensor:
    """Return (B, rows * columns, C) patches as a map, (B, C, rows, columns)."""
    batch, _, channels = patches.shape
    return patches.transpose(1, 2).reshape(batch, channels, *grid)
