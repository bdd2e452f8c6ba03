"""Fits imported weights to the backbone that takes them: names and sizes of tables."""

import math
import re
import sys
from contextlib import suppress

import torch
from torch import Tensor, nn

from backbones.features import Backbone
from backbones.timm_networks.backbone import TimmBackbone
from backbones.timm_networks.beit import BeitBackbone
from backbones.timm_networks.tables import resize_bias_table, resize_geometric
from backbones.vit.network import VisionTransformer
from backbones.vit.positions import resize_positions
from backbones.weights.formats import Reasons

State = dict[str, Tensor]

_TABLES = ("pos_embed", "relative_position_bias_table")


def rename(state: State, backbone: Backbone, from_timm: bool) -> State:
    """Give imported weights the backbone's own names.

    Args:
        state: Tensors under timm's names.
        backbone: The network that takes them.
        from_timm: The file is timm's own, so that timm's repairs of older files apply.

    Returns:
        All of them, what the backbone has no place for included, so that the strict check sees it.
    """
    if isinstance(backbone, TimmBackbone):
        repaired = _repair(state, backbone.net) if from_timm else state
        return {backbone.own_name(name): tensor for name, tensor in repaired.items()}
    return _join_qkv_bias(_rename_layer_scale(state, backbone))


def resize(state: State, backbone: Backbone) -> tuple[State, tuple[str, ...]]:
    """Resize the position tables that were made for another grid or window.

    The plain ViT is the exception: it takes over the size of the table and interpolates later.

    Args:
        state: Tensors under the backbone's names.
        backbone: The network that takes them.

    Returns:
        All tensors, and the names of the resized ones.
    """
    if isinstance(backbone, VisionTransformer) and "pos_embed" in state:
        with suppress(RuntimeError):  # no table of its width; the strict check tells the shapes
            backbone.load_state_dict({"pos_embed": state["pos_embed"]}, strict=False)
    wanted = backbone.state_dict()
    fitted = {k: _resize(k, tensor, wanted.get(k), backbone) for k, tensor in state.items()}
    return fitted, tuple(name for name in state if fitted[name] is not state[name])


def _resize(name: str, tensor: Tensor, wanted: Tensor | None, backbone: Backbone) -> Tensor:
    """Resize a table that was made for another grid or window; return others as they are."""
    if wanted is None or wanted.shape == tensor.shape or wanted.shape[-1] != tensor.shape[-1]:
        return tensor
    if name.endswith("relative_position_bias_table"):
        return resize_bias_table(tensor, wanted.shape[0])
    if isinstance(backbone, BeitBackbone) and name.startswith("bias_tables."):
        side = (math.isqrt(tensor.shape[0] - 3) + 1) // 2
        return resize_geometric(tensor, (side, side), backbone.grid)
    if name.rpartition(".")[2] == "pos_embed" and tensor.dim() == 3:
        return _resize_positions(tensor, wanted.shape[1])
    return tensor


def _resize_positions(table: Tensor, rows: int) -> Tensor:
    """Resize the patch rows of a table of a square grid to ``rows`` rows, prefix rows kept."""
    prefix = _prefix_rows(table.shape[1])
    side = math.isqrt(rows - prefix)
    if side**2 != rows - prefix:
        return table
    patches = resize_positions(table[:, prefix:].float(), (side, side)).to(table)
    return torch.cat([table[:, :prefix], patches], dim=1)


def _prefix_rows(rows: int) -> int:
    """Return how many rows stand before those of a square grid."""
    return rows - math.isqrt(rows) ** 2


def _rename_layer_scale(state: State, backbone: nn.Module) -> State:
    """Give BEiT's ``gamma_1`` the name that timm's ViT has for it, where the backbone scales."""
    if not any(name.endswith("ls1.gamma") for name in backbone.state_dict()):
        return state
    return {re.sub(r"\.gamma_([12])$", r".ls\1.gamma", name): v for name, v in state.items()}


def _join_qkv_bias(state: State) -> State:
    """Join BEiT's separate biases; keys have none, which is a bias of zero."""
    joined = dict(state)
    for name in state:
        if name.endswith(".q_bias"):
            stem = name.removesuffix("q_bias")
            query, value = joined.pop(name), joined.pop(f"{stem}v_bias")
            joined[f"{stem}qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
    return joined


def classifier_of(backbone: Backbone) -> Reasons:
    """Return patterns, with the reason, for what timm files hold beside the backbone."""
    if not isinstance(backbone, TimmBackbone):
        return ()
    names = backbone.net.pretrained_cfg.get("classifier") or ()
    names = (names,) if isinstance(names, str) else names
    return tuple((f"{name}.*", "classifier") for name in names)


def num_heads(backbone: Backbone) -> int | None:
    """Return the attention heads of the first block of a plain ViT, ours or timm's."""
    blocks = getattr(getattr(backbone, "net", backbone), "blocks", None)
    return getattr(getattr(blocks[0], "attn", None), "num_heads", None) if blocks else None


def _repair(state: State, net: nn.Module) -> State:
    """Apply timm's own repair of older files of this family, if it has one."""
    repair = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    own = net.state_dict()
    # timm would resample patch kernels of another size without a word.
    kernels = (k for k, v in state.items() if v.ndim == 4 and k in own)
    if repair is None or any(own[k].shape != state[k].shape for k in kernels):
        return state
    # Tables are resized by our rules: timm's differ, and lean on indexing that torch gave up.
    tables = {k: v for k, v in state.items() if k.endswith(_TABLES)}
    repaired: State = repair({k: v for k, v in state.items() if k not in tables}, net)
    return repaired | tables
