"""EfficientNet's tensors under lukemelas's names, given timm's."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]

# By lukemelas's name: a first block expands nothing, and so has one norm less than the others.
_FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_LATER_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_AROUND_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def name_as_timm(state: "State") -> "State":
    """Give EfficientNet's tensors timm's names; numbers of blocks become stage and block.

    A stage ends where the width changes (Tan and Le 2019, table 1: no two neighbours are alike).

    Args:
        state: Tensors under lukemelas's names; any other name stays, for the strict check to see.
    """
    widths: list[int] = []
    while (last := state.get(f"_blocks.{len(widths)}._project_conv.weight")) is not None:
        widths.append(last.shape[0])
    begins = [i for i, width in enumerate(widths) if i == 0 or width != widths[i - 1]]

    def rename(name: str) -> str:
        block = re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", name)
        if block is None:
            first, dot, rest = name.partition(".")
            return _AROUND_BLOCKS.get(first, first) + dot + rest
        number, part, rest = int(block[1]), block[2], block[3]
        expands = f"_blocks.{number}._expand_conv.weight" in state
        stage = sum(begin <= number for begin in begins) - 1
        known = _LATER_BLOCK if expands else _FIRST_BLOCK
        place = number - begins[stage] if begins else number
        return f"blocks.{stage}.{place}.{known.get(part, part)}.{rest}"

    return {rename(name): tensor for name, tensor in state.items()}
