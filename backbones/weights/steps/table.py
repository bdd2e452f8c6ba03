"""Changes to imported tensors that a new name alone does not make; formats name them.

Every step takes the tensors of one network, by their names so far, and the backbone that they are
for, and returns all tensors again. Tensors may be on the meta device, where only shapes count.
"""

import math
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO

import torch
from torch import Tensor

from backbones.features import Backbone
from backbones.timm_networks.backbone import TimmBackbone
from backbones.weights.steps.efficientnet import name_as_timm
from backbones.weights.steps.jax_vit import jax_vit
from backbones.weights.steps.staged import (
    drop_shared_projections,
    flatten_pointwise,
    number_vil,
    regnet_names,
    split_vil_qkv,
)

State = dict[str, Tensor]
Step = Callable[[State, Backbone], State]

# Tables are resized by the rules of ``backbones.vit.positions_rule``, never by timm's repairs.
_TABLES = ("pos_embed", "relative_position_bias_table")


def patch_merging(state: State, backbone: Backbone) -> State:
    """Move Microsoft's patch merging from the end of a stage to timm's start of the next."""
    if not any(name.startswith("layers.0.downsample.") for name in state):
        return state

    def shift(name: str) -> str:
        return re.sub(
            r"^layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name
        )

    return {shift(name): tensor for name, tensor in state.items()}


def unfold_order(state: State, backbone: Backbone) -> State:
    """Put the channels of OpenMMLab's patch merging into Microsoft's order.

    OpenMMLab gathers the four patches with ``nn.Unfold``, channel by channel, row by row;
    Microsoft concatenates them patch by patch, column by column.
    """
    if not any(name.startswith("layers.0.downsample.") for name in state):
        return state

    def order(name: str, tensor: Tensor) -> Tensor:
        if not re.match(r"layers\.\d+\.downsample\.", name):
            return tensor
        by_channel = tensor.reshape(*tensor.shape[:-1], -1, 4).transpose(-1, -2)
        return torch.stack([by_channel[..., i, :] for i in (0, 2, 1, 3)], dim=-2).flatten(-2)

    return {name: order(name, tensor) for name, tensor in state.items()}


def share_bias_table(state: State, backbone: Backbone) -> State:
    """Give every block the one table of BEiT's pretraining, as its fine-tuning code does."""
    shared = state.get("rel_pos_bias.relative_position_bias_table")
    if shared is None:
        return state
    kept = {name: v for name, v in state.items() if not name.startswith("rel_pos_bias.")}
    blocks = {m[1] for name in state if (m := re.match(r"blocks\.(\d+)\.", name))}
    tables = {f"blocks.{i}.attn.relative_position_bias_table": shared for i in blocks}
    return kept | tables


def efficientnet_names(state: State, backbone: Backbone) -> State:
    """Give lukemelas's EfficientNet timm's names."""
    return name_as_timm(state)


def join_qkv(state: State, backbone: Backbone) -> State:
    """Join separate queries, keys and values (``….q.weight`` …) to ``….qkv.weight``.

    A missing bias beside others, as BEiT's keys have none, is one of zeros.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    joined: State = {}
    for name, tensor in state.items():
        found = re.fullmatch(r"(.*\.)([qkv])\.(weight|bias)", name)
        if found:
            parts.setdefault(f"{found[1]}qkv.{found[3]}", {})[found[2]] = tensor
        else:
            joined[name] = tensor
    for name, three in parts.items():
        blank = torch.zeros_like(next(iter(three.values())))
        joined[name] = torch.cat([three.get(part, blank) for part in "qkv"])
    return joined


def join_kv(state: State, backbone: Backbone) -> State:
    """Join separate keys and values to ``….kv.weight``, as PVT v2 has them."""
    joined = {n: t for n, t in state.items() if not re.search(r"\.[kv]\.(weight|bias)$", n)}
    for name, key in state.items():
        found = re.fullmatch(r"(.*\.)k\.(weight|bias)", name)
        if found and f"{found[1]}v.{found[2]}" in state:
            joined[f"{found[1]}kv.{found[2]}"] = torch.cat([key, state[f"{found[1]}v.{found[2]}"]])
    return joined


def split_pool(state: State, backbone: Backbone) -> State:
    """Split torch's attention of a pooling head into timm's queries and keys with values."""
    split = dict(state)
    for what in ("weight", "bias"):
        joint = split.pop(f"attn_pool.in_proj_{what}", None)
        if joint is not None:
            third = len(joint) // 3
            split[f"attn_pool.q.{what}"] = joint[:third]
            split[f"attn_pool.kv.{what}"] = joint[third:]
    return split


def fold_class_position(state: State, backbone: Backbone) -> State:
    """Add the class token's position to the token, where the table is wanted without it."""
    token, table = state.get("cls_token"), state.get("pos_embed")
    if token is None or table is None or table.ndim != 3 or "reg_token" not in state:
        return state
    side = math.isqrt(table.shape[1] - 1)
    if side * side + 1 != table.shape[1]:
        return state
    return {**state, "cls_token": token + table[:, :1], "pos_embed": table[:, 1:]}


def number_blocks(state: State, backbone: Backbone) -> State:
    """Number blocks through all stages, as timm's Hiera does."""
    pattern = re.compile(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.")
    places = sorted({(int(m[1]), int(m[2])) for name in state if (m := pattern.match(name))})
    number = {place: index for index, place in enumerate(places)}

    def rename(found: re.Match[str]) -> str:
        return f"blocks.{number[int(found[1]), int(found[2])]}."

    return {pattern.sub(rename, name): tensor for name, tensor in state.items()}


def rgb_stem(state: State, backbone: Backbone) -> State:
    """Turn the first convolution of a ResNet round from BGR to RGB."""
    stem = state.get("conv1.weight")
    return state if stem is None else {**state, "conv1.weight": stem.flip(1)}


def mask_key_bias(state: State, backbone: Backbone) -> State:
    """Set the bias of keys to zero, which DINOv3 masks in its forward pass."""

    def masked(name: str, tensor: Tensor) -> Tensor:
        if not name.endswith(".attn.qkv.bias"):
            return tensor
        query, _, value = tensor.chunk(3)
        return torch.cat([query, torch.zeros_like(query), value])

    own = {name.removeprefix("net.") for name in backbone.state_dict()}
    biased = any(name.endswith((".q_bias", ".qkv.bias")) for name in own)
    kept = {name: masked(name, tensor) for name, tensor in state.items()}
    if biased:
        return kept
    # timm builds the distilled sizes without any bias, since theirs are all zero.
    zero = {n for n, t in kept.items() if n.endswith(".qkv.bias") and (t.is_meta or not t.any())}
    return {name: tensor for name, tensor in kept.items() if name not in zero}


def conv_patches(state: State, backbone: Backbone) -> State:
    """Give a linear patch embedding the shape of the convolution that it stands for."""
    name = "patch_embed.proj.weight"
    flat = state.get(name)
    side = backbone.strides[0]
    if flat is None or flat.ndim != 2 or flat.shape[1] != 3 * side * side:
        return state
    return {**state, name: flat.reshape(-1, 3, side, side)}


def lead_positions(state: State, backbone: Backbone) -> State:
    """Give a table of positions, (N, C), the leading dimension that timm's has."""
    table = state.get("pos_embed")
    return state if table is None or table.ndim != 2 else {**state, "pos_embed": table[None]}


def name_separate_biases(state: State, backbone: Backbone) -> State:
    """Name EVA-02's biases after the separate projections that they belong to, where it has such.

    Keys have none. Files with one joint projection keep their names.
    """
    separate = any(name.endswith(".attn.q_proj.weight") for name in state)
    pattern = re.compile(r"\.attn\.([qv])_bias$")
    return {
        pattern.sub(r".attn.\1_proj.bias", name) if separate else name: tensor
        for name, tensor in state.items()
    }


def timm_repair(state: State, backbone: Backbone) -> State:
    """Apply timm's own repair of older files of this family, if it has one."""
    if not isinstance(backbone, TimmBackbone):
        return state
    net = backbone.net
    repair = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    own = net.state_dict()
    # timm would resample patch kernels of another size without a word.
    kernels = (k for k, v in state.items() if v.ndim == 4 and k in own)
    if repair is None or any(own[k].shape != state[k].shape for k in kernels):
        return state
    tables = {k: v for k, v in state.items() if k.endswith(_TABLES)}
    rest = {k: v for k, v in state.items() if k not in tables}
    if set(rest) | set(tables) >= set(own):
        return state  # timm's present names; nothing needs repair
    try:
        with redirect_stdout(StringIO()):  # some of them print
            repaired: State = repair(rest, net)
    except Exception:  # it expects an older file of its own, and this is not one
        return state
    return repaired | tables


STEPS: Mapping[str, Step] = {
    step.__name__: step
    for step in (
        patch_merging,
        unfold_order,
        share_bias_table,
        efficientnet_names,
        join_qkv,
        join_kv,
        rgb_stem,
        mask_key_bias,
        split_pool,
        fold_class_position,
        number_blocks,
        conv_patches,
        lead_positions,
        name_separate_biases,
        timm_repair,
        flatten_pointwise,
        number_vil,
        split_vil_qkv,
        regnet_names,
        jax_vit,
        drop_shared_projections,
    )
}
