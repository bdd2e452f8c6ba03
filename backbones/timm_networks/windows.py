"""Attention of timm's plain ViTs on maps of tokens: inside windows or global, as ViTDet has it.

The blocks keep timm's own forward: norms, LayerScale, MLPs of any kind and stochastic depth act on
the last dimension, so that tokens can stay a map (B, rows, columns, C). Only the attention modules
change class; their parameters keep their names.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import apply_rot_embed_cat
from timm.layers.attention import Attention, AttentionRope
from timm.models.beit import Attention as BeitAttention
from timm.models.eva import EvaAttention
from timm.models.vision_transformer_relpos import RelPosAttention
from torch import Tensor, nn

from backbones.timm_networks.tables import mlp_bias
from backbones.vit.attention import partition, unpartition
from backbones.vit.relative_attention import attend_relative

# Bias of an unfused projection, None where it has none.
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class MapAttention(nn.Module):
    """Self-attention on a map of tokens without prefix tokens; mixed into timm's classes.

    Attributes:
        window: Side in tokens of the windows; 0 attends globally.
        rel_pos_h: Decomposed relative positions by row offset; None for none.
        rel_pos_w: By column offset.
    """

    window: int
    rel_pos_h: nn.Parameter | None
    rel_pos_w: nn.Parameter | None
    # timm's modules, which have no types.
    qkv: Any
    num_heads: Any
    proj: Any
    proj_drop: Any
    q_bias: Any
    k_bias: Any
    v_bias: Any

    def forward(
        self,
        x: Tensor,
        rope: Tensor | None = None,
        shared_rel_pos_bias: Tensor | None = None,
        **unused: Any,
    ) -> Tensor:
        """Attend.

        Args:
            x: (B, rows, columns, C).
            rope: Rotary embedding of the window, or of the whole map in global attention.
            shared_rel_pos_bias: (1, heads, N, N), added to the logits, likewise.
            **unused: Masks, which timm's blocks pass on and which are None.

        Returns:
            Of the same shape.
        """
        batch, rows, columns, channels = x.shape
        grid, size = (rows, columns), self.window
        tokens = x.reshape(batch, rows * columns, channels)
        qkv, bias = self._project(tokens)
        if size:
            qkv = partition(qkv, grid, size, bias).reshape(-1, size * size, qkv.shape[-1])
        heads = self._heads(qkv, rope)
        found = self._attend(heads, (size, size) if size else grid, shared_rel_pos_bias)
        joined = unpartition(found, grid, size) if size else found.transpose(1, 2).flatten(2)
        out: Tensor = self.proj_drop(self.proj(self._gated(joined, tokens)))
        return out.view(batch, rows, columns, -1)

    def _project(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return queries, keys and values side by side, (B, N, 3 C), and the bias they have."""
        if self.qkv is None:
            parts = [getattr(self, name) for name in _PROJECTIONS]
            if all(part.bias is None for part in parts):
                return torch.cat([part(tokens) for part in parts], dim=-1), None
            biases = [
                part.weight.new_zeros(part.out_features) if part.bias is None else part.bias
                for part in parts
            ]
            return torch.cat([part(tokens) for part in parts], dim=-1), torch.cat(biases)
        bias = self.qkv.bias
        if getattr(self, "q_bias", None) is not None:
            bias = torch.cat([self.q_bias, self.k_bias, self.v_bias])
        return F.linear(tokens, self.qkv.weight, bias), bias

    def _heads(self, qkv: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return normed and rotated queries, keys and values, each (B, heads, N, head_dim)."""
        few = getattr(self, "num_kv_heads", self.num_heads)
        head_dim = qkv.shape[-1] // (self.num_heads + 2 * few)
        sides = [self.num_heads * head_dim, few * head_dim, few * head_dim]
        q, k, v = (
            part.reshape(*part.shape[:2], -1, head_dim).transpose(1, 2)
            for part in torch.split(qkv, sides, dim=-1)
        )
        q, k = (norm(x) for norm, x in ((self._norm("q_norm"), q), (self._norm("k_norm"), k)))
        if rope is not None:
            half = bool(getattr(self, "rotate_half", False))
            q, k = (apply_rot_embed_cat(x, rope, half=half).type_as(v) for x in (q, k))
        if few < self.num_heads:
            k, v = (x.repeat_interleave(self.num_heads // few, dim=1) for x in (k, v))
        return q, k, v

    def _attend(
        self, heads: tuple[Tensor, Tensor, Tensor], grid: tuple[int, int], bias: Tensor | None
    ) -> Tensor:
        """Return what queries take from values, (B, heads, N, head_dim) like each of ``heads``."""
        if self.rel_pos_h is not None and self.rel_pos_w is not None:
            return attend_relative(torch.stack(heads), self.rel_pos_h, self.rel_pos_w, grid)
        return F.scaled_dot_product_attention(*heads, attn_mask=bias)

    def _gated(self, joined: Tensor, tokens: Tensor) -> Tensor:
        """Apply the norm and gate before the projection, if any, to (B, N, heads * head_dim)."""
        joined = self._norm("norm")(joined)
        gate = getattr(self, "gate", None)
        return joined if gate is None else joined * gate(tokens).sigmoid()

    def _norm(self, name: str) -> Any:
        return getattr(self, name, None) or nn.Identity()


class _MapViTAttention(MapAttention, Attention):  # type: ignore[misc]
    pass


class _MapRopeAttention(MapAttention, AttentionRope):  # type: ignore[misc]
    pass


class _MapEvaAttention(MapAttention, EvaAttention):  # type: ignore[misc]
    pass


class _MapBeitAttention(MapAttention, BeitAttention):  # type: ignore[misc]
    pass


class _MapRelPosAttention(MapAttention, RelPosAttention):  # type: ignore[misc]
    rel_pos: Any

    def forward(
        self,
        x: Tensor,
        rope: Tensor | None = None,
        shared_rel_pos_bias: Tensor | None = None,
        shared_rel_pos: Tensor | None = None,
        **unused: Any,
    ) -> Tensor:
        """Attend with the bias of the block, or with the one that all blocks share."""
        grid = (self.window, self.window) if self.window else (x.shape[1], x.shape[2])
        bias = shared_rel_pos if self.rel_pos is None else mlp_bias(self.rel_pos, grid)
        return super().forward(x, shared_rel_pos_bias=bias)


_CLASSES: dict[type, type] = {
    Attention: _MapViTAttention,
    AttentionRope: _MapRopeAttention,
    EvaAttention: _MapEvaAttention,
    BeitAttention: _MapBeitAttention,
    RelPosAttention: _MapRelPosAttention,
}


def can_attend_on_maps(attention: Any) -> bool:
    """Return whether ``attend_on_maps`` knows an attention module."""
    return type(attention) in _CLASSES


def attend_on_maps(attention: Any, window: int, relative_size: int) -> None:
    """Turn an attention module of timm into one on maps, in place.

    Args:
        attention: Of a class that ``can_attend_on_maps`` knows.
        window: Side of its windows, 0 for global attention.
        relative_size: Side of the grid that zero-initialised decomposed relative positions are
            made for, 0 for none.
    """
    weight = attention.proj.weight
    attention.__class__ = _CLASSES[type(attention)]
    attention.window = window
    head_dim = attention.proj.in_features // attention.num_heads
    for name in ("rel_pos_h", "rel_pos_w"):
        table = weight.new_zeros(2 * relative_size - 1, head_dim) if relative_size else None
        attention.register_parameter(name, None if table is None else nn.Parameter(table))
