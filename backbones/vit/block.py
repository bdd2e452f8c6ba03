"""One transformer block of the plain ViT."""

from timm.layers import DropPath, LayerScale, Mlp
from torch import Tensor, nn

from backbones.spec import BuildOptions
from backbones.vit.attention import Attention
from backbones.vit.config import ViTConfig
from backbones.vit.positions import Grid
from backbones.vit.windows_rule import global_blocks

NORM_EPS = 1e-6  # ViT's reference code, MAE, DINO and ViTDet alike


class Block(nn.Module):
    """Pre-norm transformer block: attention, then MLP."""

    def __init__(self, config: ViTConfig, index: int, options: BuildOptions, side: int) -> None:
        """Make block ``index``; ``side`` is the grid that relative positions are made for."""
        super().__init__()
        dim = config.embed_dim
        window = 0 if index in global_blocks(config.num_layers, options) else options.window_size
        relative = options.relative_positions and not config.irpe
        dense = options.window_size > 0 or relative
        self.num_prefix = 0 if dense else config.num_prefix
        rate = options.drop_path * index / max(1, config.num_layers - 1)

        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(
            dim,
            config.num_heads,
            qkv_bias=config.qkv_bias,
            window_size=window,
            relative_size=(window or side) if relative else 0,
            irpe=config.irpe,
        )
        self.ls1 = _layer_scale(config)
        self.drop_path1 = DropPath(rate) if rate else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.ls2 = _layer_scale(config)
        self.drop_path2 = DropPath(rate) if rate else nn.Identity()

    def forward(self, tokens: Tensor, grid: Grid | None) -> Tensor:
        """Return the tokens, (B, N, C), after this block."""
        return self._add(tokens, self.attn(self.norm1(tokens), grid, self.num_prefix))

    def forward_some(self, tokens: Tensor, wanted: Tensor) -> Tensor:
        """Return some of the tokens after this block, which the others only inform.

        Args:
            tokens: (B, N, C).
            wanted: (B * M,) flat index into the (B * N) tokens, M of each image in turn.

        Returns:
            (B, M, C).

        Raises:
            ValueError: The block has windows or relative positions.
        """
        normed = self.norm1(tokens)
        asking = pick(normed, wanted)
        return self._add(pick(tokens, wanted), self.attn.answer(asking, normed))

    def _add(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """Return (B, N, C) tokens with what they attended to, (B, N, C), after the MLP."""
        tokens = tokens + self.drop_path1(self.ls1(attended))
        out: Tensor = tokens + self.drop_path2(self.ls2(self.mlp(self.norm2(tokens))))
        return out


def pick(tokens: Tensor, wanted: Tensor) -> Tensor:
    """Return tokens (B, N, C) at a flat index (B * M,), M of each image in turn, as (B, M, C)."""
    batch = len(tokens)
    return tokens.flatten(0, 1).index_select(0, wanted).view(batch, -1, tokens.shape[-1])


def _layer_scale(config: ViTConfig) -> nn.Module:
    if config.layer_scale is None:
        return nn.Identity()
    scale: nn.Module = LayerScale(config.embed_dim, init_values=config.layer_scale)
    return scale
