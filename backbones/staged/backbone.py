"""What staged networks share: embeddings, blocks and the ``Backbone`` contract."""

from collections.abc import Sequence

import torch
from timm.layers import DropPath, Mlp
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from backbones.features import Backbone, Features

Grid = tuple[int, int]


class Embedding(nn.Module):
    """A strided convolution and a LayerNorm, from an image or map to tokens."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, stride: int, padding: int, eps: float
    ) -> None:
        """Make the convolution; ``eps`` is the norm's."""
        super().__init__()
        self.stride = stride
        self.proj = nn.Conv2d(in_channels, channels, kernel, stride, padding)
        self.norm = nn.LayerNorm(channels, eps=eps)

    def forward(self, image: Tensor) -> tuple[Tensor, Grid]:
        """Return the tokens of an image.

        Args:
            image: (B, C, H, W); zero-padded, right and bottom, to a multiple of the stride.

        Returns:
            (B, rows * columns, C'), raster order, and (rows, columns).
        """
        height, width = image.shape[-2:]
        right, bottom = -width % self.stride, -height % self.stride
        if right or bottom:
            image = F.pad(image, (0, right, 0, bottom))
        image = self.proj(image)
        tokens: Tensor = self.norm(image.flatten(2).transpose(1, 2))
        return tokens, (image.shape[-2], image.shape[-1])


class StagedBlock(nn.Module):
    """Pre-norm transformer block: attention that knows the grid of the tokens, then MLP."""

    def __init__(
        self,
        channels: int,
        attention: nn.Module,
        drop_path: float,
        eps: float,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        """Make a block around ``attention``, which takes (B, N, C) tokens and their grid."""
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=eps)
        self.attn = attention
        self.drop_path1 = DropPath(drop_path) if drop_path else nn.Identity()
        self.norm2 = nn.LayerNorm(channels, eps=eps)
        self.mlp = Mlp(channels, 4 * channels, act_layer=activation)
        self.drop_path2 = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Return the tokens, (B, P + rows * columns, C), after this block."""
        tokens = tokens + self.drop_path1(self.attn(self.norm1(tokens), grid))
        out: Tensor = tokens + self.drop_path2(self.mlp(self.norm2(tokens)))
        return out


class Stage(nn.Module):
    """An embedding, and the blocks that work on its tokens.

    Attributes:
        num_prefix: Tokens in front of the patches (class or global ones).
        prefix: Their start values, (1, num_prefix, C); None where there are none.
    """

    def __init__(self, embed: Embedding, blocks: Sequence[StagedBlock], num_prefix: int) -> None:
        """Put ``blocks`` behind ``embed``."""
        super().__init__()
        self.embed = embed
        self.num_prefix = num_prefix
        channels = embed.proj.out_channels
        self.prefix = nn.Parameter(torch.zeros(1, num_prefix, channels)) if num_prefix else None
        self.blocks = nn.ModuleList(blocks)

    def start(self, image: Tensor) -> tuple[Tensor, Grid]:
        """Return the tokens in front of the first block, prefix first, and the patches' grid."""
        tokens, grid = self.embed(image)
        if self.prefix is not None:
            tokens = torch.cat([self.prefix.expand(len(tokens), -1, -1), tokens], dim=1)
        return tokens, grid

    def to_map(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Return the patches among (B, P + rows * columns, C) tokens as (B, C, rows, columns)."""
        return torch.unflatten(tokens[:, self.num_prefix :].transpose(1, 2), 2, grid)


class StagedBackbone(Backbone):
    """A hierarchical transformer. Each stage embeds the map of the one before.

    Parameters are ``stages.I.embed.*``, ``stages.I.prefix``, ``stages.I.blocks.J.*``, ``norm.*``.
    Maps have no final norm; ``pooled`` is, behind the norm, the last stage's class token where
    there is one, otherwise the mean of its tokens.
    """

    def __init__(self, stages: Sequence[Stage], eps: float) -> None:
        """Take the stages, finest first.

        Args:
            stages: At least one; the stride of a stage is the product of those up to it.
            eps: Of the final norm.
        """
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(stage.embed.proj.out_channels for stage in stages)
        self.norm = nn.LayerNorm(self.channels[-1], eps=eps)
        strides, depth = [1], [0]
        for stage in stages:
            strides.append(strides[-1] * stage.embed.stride)
            depth.append(depth[-1] + len(stage.blocks))
        self.strides, self.num_layers = tuple(strides[1:]), depth[-1]
        self._first_layers = depth[:-1]
        self._checkpointing = False

    def forward(self, images: Tensor, num_last_blocks: int = 0) -> Features:
        """Return the features of a batch; see ``Backbone.forward``.

        The final norm fits only the tokens of the last stage. Tokens of earlier stages come
        without it, as EsViT's linear probe takes them (microsoft/esvit, models/).
        """
        kept: list[tuple[Tensor, int]] = []
        maps = []
        image = images
        for stage in self._stages():
            tokens, grid = stage.start(image)
            for block in stage.blocks:
                tokens = self._run(block, tokens, grid)
                last = stage is self.stages[-1]
                if num_last_blocks:
                    kept.append((self.norm(tokens) if last else tokens, stage.num_prefix))
            image = stage.to_map(tokens, grid)
            maps.append(image)
        normed, prefix = (kept[-1][0] if kept else self.norm(tokens)), stage.num_prefix
        kept = kept[max(len(kept) - num_last_blocks, 0) :]
        return Features(
            pooled=normed[:, 0] if prefix else normed.mean(dim=1),
            maps=tuple(maps),
            prefix_tokens=tuple(tokens[:, :count] for tokens, count in kept),
            patch_tokens=tuple(tokens[:, count:] for tokens, count in kept),
        )

    def forward_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return only ``maps``; see ``Backbone.forward_maps``."""
        maps: list[Tensor] = []
        for stage in self._stages():
            tokens, grid = stage.start(maps[-1] if maps else images)
            for block in stage.blocks:
                tokens = self._run(block, tokens, grid)
            maps.append(stage.to_map(tokens, grid))
        return tuple(maps)

    def layer_id(self, parameter_name: str) -> int:
        """Return the layer-decay layer of a parameter; see ``Backbone.layer_id``.

        The embedding of a later stage has the layer of the last block before it, as Swin's patch
        merging has (Swin-Transformer-Object-Detection).
        """
        if parameter_name not in dict(self.named_parameters()):
            raise KeyError(f"the network has no parameter {parameter_name!r}")
        parts = parameter_name.split(".")
        if parts[0] == "norm":
            return self.num_layers + 1
        first = self._first_layers[int(parts[1])]
        return first + int(parts[3]) + 1 if parts[2] == "blocks" else first

    def no_weight_decay(self) -> frozenset[str]:
        """Return class and global tokens and relative positions, as the authors' code does."""
        names = (name for name, _ in self.named_parameters())
        return frozenset(n for n in names if n.endswith(".prefix") or ".attn.bias_" in n)

    def set_activation_checkpointing(self, enabled: bool) -> None:
        """Recompute each block's activations in the backward pass."""
        self._checkpointing = enabled

    def _stages(self) -> list[Stage]:
        return [stage for stage in self.stages if isinstance(stage, Stage)]

    def _run(self, block: nn.Module, tokens: Tensor, grid: Grid) -> Tensor:
        """Return (B, P + rows * columns, C) tokens after a block, which may be recomputed."""
        if self._checkpointing and torch.is_grad_enabled():
            result: Tensor = checkpoint(block, tokens, grid, use_reentrant=False)
            return result
        out: Tensor = block(tokens, grid)
        return out


def drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Return the rate of stochastic depth of every block, stage by stage, rising from 0.

    Args:
        rate: At the last block.
        depths: Blocks of each stage.
    """
    total = sum(depths)
    rates = iter([rate * index / max(1, total - 1) for index in range(total)])
    return [[next(rates) for _ in range(depth)] for depth in depths]
