"""Position tables of timm's plain ViTs, resized by the rule of the method that trained them."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor, nn

from backbones.vit.positions import resize_positions
from backbones.vit.positions_rule import ANTIALIASED, PositionRule


class RuledVisionTransformer(VisionTransformer):  # type: ignore[misc]
    """timm's ViT that resizes its table by ``position_rule``; timm itself always antialiases."""

    position_rule = ANTIALIASED

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Add positions to (B, rows, columns, C) patches and prepend the prefix tokens."""
        return _with_positions(self, x, self.position_rule)


class RuledEva(Eva):  # type: ignore[misc]
    """The same for timm's ViT with rotary positions."""

    position_rule = ANTIALIASED

    def _pos_embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Do as ``RuledVisionTransformer`` does; the second result are the rotary positions."""
        rotary: Tensor = self.rope.get_embed(shape=list(x.shape[1:3]))
        return _with_positions(self, x, self.position_rule), rotary


def _with_positions(net: Any, x: Tensor, rule: PositionRule) -> Tensor:
    """Return (B, N, C) tokens of (B, rows, columns, C) patches, prefix tokens in front."""
    batch, rows, columns, channels = x.shape
    placed = 0 if net.no_embed_class else net.num_prefix_tokens
    table = net.pos_embed
    patches = resize_positions(table[:, placed:].float(), (rows, columns), rule)
    tokens = x.reshape(batch, rows * columns, channels) + patches.to(table.dtype)
    tokens_in_front = [t for t in (net.cls_token, net.reg_token) if t is not None]
    if tokens_in_front:
        prefix = torch.cat(tokens_in_front, dim=1)
        prefix = prefix + table[:, :placed] if placed else prefix
        tokens = torch.cat([prefix.expand(batch, -1, -1), tokens], dim=1)
    out: Tensor = net.pos_drop(tokens)
    return out


def resizes_itself(net: Any) -> bool:
    """Return whether a network of timm is a plain ViT that resizes its table in every forward."""
    plain = type(net) in (VisionTransformer, RuledVisionTransformer, RuledEva)
    return plain and net.dynamic_img_size and net.pos_embed is not None


def rule_of(net: Any) -> PositionRule | None:
    """Return the rule by which a network resizes its table of positions, None for the default.

    Args:
        net: A network of timm, or an own ViT.
    """
    rule = getattr(net, "position_rule", None)
    if rule is None and type(net) is VisionTransformer and resizes_itself(net):
        return ANTIALIASED
    return rule


def follow_rule(net: Any, rule: PositionRule) -> None:
    """Make a plain ViT of timm resize its table by a rule; other networks keep timm's."""
    rotary = type(net) in (Eva, RuledEva) and net.pos_embed is not None and net.rope is not None
    if rule.counts_patches and rotary:
        net.__class__ = RuledEva
        net.rope.ref_feat_shape = None
        net.position_rule = rule
    if not resizes_itself(net) or isinstance(net, RuledEva):
        return
    net.__class__ = VisionTransformer if rule == ANTIALIASED else RuledVisionTransformer
    if isinstance(net, RuledVisionTransformer):
        net.position_rule = rule


def take_tables(net: Any, tables: Mapping[str, Tensor]) -> None:
    """Give a ViT of timm the tables of positions of the size that its weights have.

    They are interpolated in every forward, so that none is interpolated twice.

    Args:
        net: Changed in place where it interpolates its own tables.
        tables: Tensors of the weights by timm's names, others among them; no values are copied.
    """
    if isinstance(net, VisionTransformerSAM):
        _take_sam_tables(net, tables)
    elif "pos_embed" in tables:
        _take_table(net, tables["pos_embed"])


def _take_sam_tables(net: Any, tables: Mapping[str, Tensor]) -> None:
    """Do so for SAM: (1, rows, columns, C) and, for each block, (2 * side - 1, channels)."""
    for name, own in list(net.named_parameters()):
        parts = name.split(".")
        table = tables.get(name)
        if table is None or parts[-1] not in ("pos_embed", "rel_pos_h", "rel_pos_w"):
            continue
        if table.ndim == own.ndim and table.shape[-1] == own.shape[-1]:
            module = net.get_submodule(".".join(parts[:-1]))
            fresh = nn.Parameter(own.new_zeros(table.shape), requires_grad=own.requires_grad)
            setattr(module, parts[-1], fresh)


def _take_table(net: Any, table: Tensor) -> None:
    """Do so for a plain ViT and a (1, prefix + rows * rows, C) table of a square grid."""
    if not resizes_itself(net) or table.ndim != 3 or table.shape[-1] != net.pos_embed.shape[-1]:
        return
    prefix = 0 if net.no_embed_class else net.num_prefix_tokens
    side = math.isqrt(max(table.shape[1] - prefix, 0))
    if side < 1 or side**2 + prefix != table.shape[1] or table.shape == net.pos_embed.shape:
        return
    learned = net.pos_embed.requires_grad
    net.pos_embed = nn.Parameter(net.pos_embed.new_zeros(table.shape), requires_grad=learned)
    patch = net.patch_embed
    patch.grid_size, patch.num_patches = (side, side), side * side
    patch.img_size = tuple(side * length for length in patch.patch_size)
