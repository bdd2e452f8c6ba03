"""Fits imported weights to the backbone that takes them: names, tables, norms, rules of use."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

import torch
from timm.layers import GELUTanh, GluMlp, QuickGELU, SwiGLU
from torch import Tensor, nn

from backbones.features import Backbone
from backbones.timm_networks.backbone import NET, TimmBackbone
from backbones.timm_networks.beit import BeitBackbone
from backbones.timm_networks.positions import follow_rule, take_tables
from backbones.timm_networks.tables import resize_bias_table, resize_geometric
from backbones.vit.network import VisionTransformer
from backbones.vit.positions import resize_positions
from backbones.vit.positions_rule import PositionRule
from backbones.weights.layout import Reasons

State = dict[str, Tensor]


def rename(state: State, backbone: Backbone) -> State:
    """Give imported weights the backbone's own names.

    Args:
        state: Tensors under timm's names.
        backbone: The network that takes them.

    Returns:
        All of them, what the backbone has no place for included, so that the strict check sees it.
    """
    if isinstance(backbone, TimmBackbone):
        separate = _has_separate_biases(backbone)
        joined = _split_qkv_bias(state) if separate else _join_qkv_bias(state)
        scaled = _rename_layer_scale(joined, backbone)
        return {backbone.own_name(name): tensor for name, tensor in scaled.items()}
    return _join_qkv_bias(_rename_layer_scale(state, backbone))


def adopt(backbone: Backbone, state: State, rule: PositionRule) -> None:
    """Give a backbone the final norm and the position table that its weights were trained with.

    Networks that were fine-tuned on the mean over patches have their last norm behind that mean
    (``fc_norm``) in place of the one in front of it. A plain ViT keeps the table of its weights and
    interpolates it in every forward.

    Args:
        backbone: Changed in place.
        state: Tensors under the backbone's names; not loaded here.
        rule: How the method resizes its table.
    """
    net = backbone.net if isinstance(backbone, TimmBackbone) else backbone
    names = {name.removeprefix("net.") for name in state}
    if "fc_norm.weight" in names and "norm.weight" not in names:
        _norm_behind_pooling(backbone)
    if isinstance(backbone, VisionTransformer):
        backbone.position_rule = rule
        if "pos_embed" in state:
            # A table of another width stays out; the strict check tells the shapes.
            with suppress(RuntimeError):
                backbone.load_state_dict({"pos_embed": state["pos_embed"]}, strict=False)
        return
    follow_rule(net, rule)
    take_tables(net, {name.removeprefix("net."): tensor for name, tensor in state.items()})


def _norm_behind_pooling(backbone: Backbone) -> None:
    if isinstance(backbone, VisionTransformer):
        backbone.norm_behind_pooling()
        return
    net = getattr(backbone, "net", None)
    norm, fc_norm = getattr(net, "norm", None), getattr(net, "fc_norm", None)
    if isinstance(norm, nn.LayerNorm) and isinstance(fc_norm, nn.Identity):
        assert isinstance(backbone, TimmBackbone)
        backbone.norm_behind_pooling()


def set_norm_eps(
    backbone: nn.Module,
    eps: float | None,
    kind: type[nn.Module] = nn.LayerNorm,
    names: Sequence[str] = ("*",),
) -> None:
    """Set the epsilon of norms.

    Args:
        backbone: Changed in place.
        eps: The value; None leaves the norms as they are.
        kind: Class of the norms.
        names: Shell patterns of their names in timm's network.
    """
    for name, module in backbone.named_modules() if eps is not None else ():
        plain = name.removeprefix(NET)
        if isinstance(module, kind) and any(fnmatchcase(plain, pattern) for pattern in names):
            module.eps = eps  # type: ignore[assignment]  # a number, not one of a module's parts


# As transformers' settings call them (transformers activations.py, ACT2FN).
_TANH = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_accurate")
ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_python": nn.GELU,
    "quick_gelu": QuickGELU,
    **dict.fromkeys(_TANH, GELUTanh),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "mish": nn.Mish,
}


def set_activation(backbone: nn.Module, name: str, gates: bool = False) -> None:
    """Give the MLPs of a network the activation that their weights were trained with.

    Args:
        backbone: Changed in place.
        name: One of ``ACTIVATIONS``; others, and an empty one, change nothing.
        gates: Whether gated MLPs take it, too. The settings of DINOv2's giant, for one, do not name
            the activation of its gates.
    """
    if name in ACTIVATIONS:
        for mlp in mlps_of(backbone, gated=False) + (mlps_of(backbone, gated=True) * gates):
            mlp.act = ACTIVATIONS[name]()


def mlps_of(backbone: nn.Module, gated: bool) -> list[Any]:
    """Return the MLPs of a network's blocks and pooling, those with gates or those without."""
    mlps = [module for name, module in backbone.named_modules() if name.split(".")[-1] == "mlp"]
    return [
        mlp
        for mlp in mlps
        if isinstance(getattr(mlp, "act", None), nn.Module)
        and isinstance(mlp, (GluMlp, SwiGLU)) == gated
    ]


def computes(backbone: nn.Module, name: str) -> bool:
    """Tell whether all activations of a network without MLPs are of one kind, and of that one."""
    kinds = {type(m) for m in backbone.modules() if type(m) in set(ACTIVATIONS.values())}
    return kinds == {ACTIVATIONS.get(name)}


def resize(state: State, backbone: Backbone, rule: PositionRule) -> tuple[State, tuple[str, ...]]:
    """Resize the position tables that were made for another grid or window.

    Args:
        state: Tensors under the backbone's names.
        backbone: The network that takes them, after ``adopt``.
        rule: How the method resizes its table of absolute positions.

    Returns:
        All tensors, and the names of the resized ones.
    """
    wanted = backbone.state_dict()
    fitted = {k: _resize(k, tensor, wanted.get(k), backbone, rule) for k, tensor in state.items()}
    changed = (name for name in state if fitted[name].numel() != state[name].numel())
    return fitted, tuple(changed)


def _resize(
    name: str, tensor: Tensor, wanted: Tensor | None, backbone: Backbone, rule: PositionRule
) -> Tensor:
    """Resize a table that was made for another grid or window; return others as they are."""
    if wanted is None or wanted.shape == tensor.shape:
        return tensor
    if _without_ones(wanted) == _without_ones(tensor):
        return tensor.reshape(wanted.shape)
    if wanted.shape[-1] != tensor.shape[-1]:
        return tensor
    if name.endswith("relative_position_bias_table"):
        with suppress(ValueError):  # not the table of a square window; the shapes are told
            return resize_bias_table(tensor, wanted.shape[0])
        return tensor
    if isinstance(backbone, BeitBackbone) and name.startswith("bias_tables."):
        side = (math.isqrt(max(tensor.shape[0] - 3, 0)) + 1) // 2
        square = (2 * side - 1) ** 2 + 3 == tensor.shape[0]
        return resize_geometric(tensor, (side, side), backbone.grid) if square else tensor
    if name.rpartition(".")[2] == "pos_embed" and tensor.dim() == wanted.dim() == 3:
        return _resize_positions(tensor, wanted.shape[1], rule)
    return tensor


def _without_ones(tensor: Tensor) -> list[int]:
    """Return the sides of a tensor longer than one: others spell the same numbers differently."""
    return [length for length in tensor.shape if length != 1]


def _resize_positions(table: Tensor, rows: int, rule: PositionRule) -> Tensor:
    """Resize a (1, N, C) table of a square grid to (1, rows, C), prefix rows kept."""
    prefix = rows - math.isqrt(rows) ** 2
    old = math.isqrt(max(table.shape[1] - prefix, 0))
    if old**2 + prefix != table.shape[1]:
        return table  # another number of prefix rows; the shapes are told
    side = math.isqrt(rows - prefix)
    patches = resize_positions(table[:, prefix:].float(), (side, side), rule).to(table)
    return torch.cat([table[:, :prefix], patches], dim=1)


def _rename_layer_scale(state: State, backbone: nn.Module) -> State:
    """Give LayerScale the name that the backbone has for it, where the backbone scales."""
    own = backbone.state_dict()
    if any(name.endswith("ls1.gamma") for name in own):
        return {re.sub(r"\.gamma_([12])$", r".ls\1.gamma", name): v for name, v in state.items()}
    if any(name.endswith(".gamma_1") for name in own):
        return {re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", name): v for name, v in state.items()}
    return state


def _has_separate_biases(backbone: nn.Module) -> bool:
    return any(name.endswith(".q_bias") for name in backbone.state_dict())


def _join_qkv_bias(state: State) -> State:
    """Join BEiT's separate biases; keys have none, which is a bias of zero."""
    joined = dict(state)
    for name in state:
        stem = name.removesuffix("q_bias")
        if name.endswith(".q_bias") and f"{stem}v_bias" in joined:
            query, value = joined.pop(name), joined.pop(f"{stem}v_bias")
            joined[f"{stem}qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
    return joined


def _split_qkv_bias(state: State) -> State:
    """Split a joint bias, where the network has none for keys; theirs must then be zero."""
    split: State = {}
    for name, tensor in state.items():
        stem = name.removesuffix("qkv.bias")
        if stem == name:
            split[name] = tensor
            continue
        query, key, value = tensor.chunk(3)
        split |= {f"{stem}q_bias": query, f"{stem}v_bias": value}
        if not key.is_meta and key.any():
            split[f"{stem}k_bias"] = key  # has no place, and the strict check says so
    return split


def classifier_of(backbone: Backbone) -> Reasons:
    """Return patterns, with the reason, for what timm files hold beside the backbone."""
    if not isinstance(backbone, TimmBackbone):
        return ()
    names = backbone.net.pretrained_cfg.get("classifier") or ()
    names = (names,) if isinstance(names, str) else names
    return tuple((f"{name}.*", "classifier") for name in names)


def num_heads(backbone: Backbone) -> list[int]:
    """Return the attention heads of a network's stages, one number where all stages have it."""
    modules = [module for name, module in backbone.named_modules() if name.endswith(".attn")]
    found = [getattr(module, "num_heads", getattr(module, "heads", None)) for module in modules]
    return list(dict.fromkeys(heads for heads in found if isinstance(heads, int)))
