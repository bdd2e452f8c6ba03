"""Changes that the files of CvT, ViL and RegNet need: steps of ``table.py``."""

import re

from torch import Tensor

from backbones.features import Backbone

State = dict[str, Tensor]

_ONE_PIXEL = re.compile(r"\.blocks\..*\.(pointwise|proj|fc[12])\.weight$")


def flatten_pointwise(state: State, backbone: Backbone) -> State:
    """Give convolutions of one pixel the shape of linear layers."""
    return {
        name: tensor[..., 0, 0] if tensor.ndim == 4 and _ONE_PIXEL.search(name) else tensor
        for name, tensor in state.items()
    }


def number_vil(state: State, backbone: Backbone) -> State:
    """Turn ViL's ``layerI.J``: the embedding, then attention and MLP of each block in turn."""

    def number(name: str) -> str:
        found = re.match(r"layer(\d+)\.(\d+)\.(.*)", name)
        if not found:
            return name
        stage, place, rest = f"stages.{int(found[1]) - 1}", int(found[2]), found[3]
        if not place:
            return f"{stage}.{rest}"
        rest = re.sub(r"^norm\.", "norm1." if place % 2 else "norm2.", rest)
        return f"{stage}.blocks.{(place - 1) // 2}.{rest}"

    return {number(name): tensor for name, tensor in state.items()}


def split_vil_qkv(state: State, backbone: Backbone) -> State:
    """Split the joint projection of ViL's later stages into ours: queries; keys and values."""
    split: State = {}
    for name, tensor in state.items():
        found = re.fullmatch(r"(.*\.attn)\.qkv\.(weight|bias)", name)
        if found:
            width = len(tensor) // 3
            split[f"{found[1]}.query.{found[2]}"] = tensor[:width]
            split[f"{found[1]}.kv.{found[2]}"] = tensor[width:]
        else:
            split[name] = tensor
    return split


def drop_shared_projections(state: State, backbone: Backbone) -> State:
    """Drop the second copy of projections that global tokens share with patches.

    Copies that differ stay, and nothing takes them: ours always shares.
    """

    def is_copy(name: str) -> bool:
        if "_global." not in name:
            return False
        shared = state.get(name.replace("_global.", "."))
        return shared is not None and (shared.is_meta or bool((shared == state[name]).all()))

    return {name: tensor for name, tensor in state.items() if not is_copy(name)}


# torchvision's parts of a block.
_REGNET = (
    (r"^stem\.0\.", "stem.conv."),
    (r"^stem\.1\.", "stem.bn."),
    (r"\.proj\.0\.", ".downsample.conv."),
    (r"\.proj\.1\.", ".downsample.bn."),
    *((rf"\.f\.{part}\.0\.", f".conv{i}.conv.") for i, part in enumerate("abc", start=1)),
    *((rf"\.f\.{part}\.1\.", f".conv{i}.bn.") for i, part in enumerate("abc", start=1)),
    (r"\.f\.se\.", ".se."),
)


def regnet_names(state: State, backbone: Backbone) -> State:
    """Give RegNet timm's names; its blocks are numbered from 1 there."""

    def rename(name: str) -> str:
        name = re.sub(
            r"^trunk_output\.block(\d)\.block\d-(\d+)\.",
            lambda m: f"s{m[1]}.b{int(m[2]) + 1}.",
            name,
        )
        for pattern, to in _REGNET:
            name = re.sub(pattern, to, name)
        return name

    return {rename(name): tensor for name, tensor in state.items()}
