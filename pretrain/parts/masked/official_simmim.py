"""Names and computed tensors of microsoft/SimMIM's full checkpoints."""

import re

from timm.layers import gen_relative_position_index
from torch import Tensor

from backbones.timm_networks.beit import BeitBackbone
from backbones.timm_networks.families import SwinBackbone

_MERGING = re.compile(r"^layers\.(\d+)\.downsample\.")
_BIAS = "encoder.rel_pos_bias.relative_position"


def swin_name(name: str) -> str:
    """Return the official name of a tensor of ``SimMIMObjective`` with a Swin.

    Microsoft keeps patch merging at the end of a stage, timm at the start of the next.
    """
    if not name.startswith("backbone.net."):
        return _beside_backbone(name)
    inner = name.removeprefix("backbone.net.")
    moved = _MERGING.sub(lambda match: f"layers.{int(match[1]) - 1}.downsample.", inner)
    return f"encoder.{moved}"


def beit_name(name: str) -> str | None:
    """Return the official name of a tensor of ``SimMIMObjective`` with a BEiT.

    All blocks share the first table, the only one that the file holds.
    """
    if name.startswith("backbone.bias_tables."):
        return f"{_BIAS}_bias_table" if name.endswith(".0") else None
    if name.startswith("backbone.net."):
        return "encoder." + name.removeprefix("backbone.net.")
    return _beside_backbone(name)


def swin_buffers(backbone: SwinBackbone) -> dict[str, Tensor]:
    """Return what Microsoft's Swin computes when it is built and saves all the same."""
    found: dict[str, Tensor] = {}
    for i, stage in enumerate(backbone.net.layers):
        for j, block in enumerate(stage.blocks):
            stem = f"encoder.layers.{i}.blocks.{j}"
            found[f"{stem}.attn.relative_position_index"] = block.attn.relative_position_index
            mask = block.get_attn_mask()
            if mask is not None:
                found[f"{stem}.attn_mask"] = mask
    return found


def beit_buffers(backbone: BeitBackbone) -> dict[str, Tensor]:
    """Return the index of relative positions, likewise."""
    index = gen_relative_position_index(backbone.grid, class_token=True)
    return {f"{_BIAS}_index": index}


def _beside_backbone(name: str) -> str:
    if name.startswith("head."):
        return "decoder.0." + name.removeprefix("head.")
    return f"encoder.{name}"
