"""The layer-decay layer of every parameter of a timm network: the stem, then block after block.

timm's own grouping is the start. It differs from what layer decay means in four ways, which are
undone here: pooling heads, necks and final norms count as further blocks; norms behind the last
block count with it; some families count stages where they have blocks; and some count the patch
embedding between two stages as a block.
"""

import re
from collections.abc import Mapping
from typing import Any

from timm.models import group_parameters

# For the few networks that timm gives no grouping of their own.
_STAGES = {
    "stem": r"^(?!stages|transformers|head|norm)",
    "blocks": r"^(?:stages|transformers)\.(\d+)",
}

# Modules behind the last block, by timm's names; only where they are not part of the stem, as the
# second norm of some convolutional stems is. Class attention (CaiT, XCiT, VOLO) is pooling: no map
# depends on it.
_BEHIND_BLOCKS = re.compile(
    r"^(norm\d*|norm_pre|fc_norm|head|head_dist|head_norm|norm_head|final_conv|conv_head|bn2|attn_pool|neck"
    r"|blocks_token_only|cls_attn_blocks|post_network|aggregate|weights|in_conv|msfa|pre_logits|pre_classifier"
    r"|incre_modules|downsamp_modules|final_layer|features\.conv5_bn_ac|features\.norm5)(\.|$)"
)

# CLIP's norm in front of the first block, and relative positions that all blocks share.
_BEFORE_BLOCKS = ("norm_pre.", "rope.", "shared_rel_pos.")

# A block inside a stage that timm groups as one.
_INNER_BLOCK = re.compile(r"^(?:\w*stages|transformers)\.\d+\.blocks\.(\d+)\.")

# CoaT's relative positions: modules of the network that all blocks of a stage share.
_SHARED = re.compile(r"^crpe(\d)\.")

# VOLO's patch merging, a member of the list that holds its stages.
_MERGING = re.compile(r"^network\.\d+\.proj\.")

# timm's mark for parameters that belong to the group before.
_WITH_PREVIOUS = (99999,)


def number_layers(net: Any) -> tuple[dict[str, int], int]:
    """Return the layer of each of timm's parameter names, and the number of blocks L.

    The stem is layer 0, block i layer i + 1, and all that stands behind the last block is L + 1.

    Args:
        net: A timm network.
    """
    matcher = net.group_matcher() if hasattr(net, "group_matcher") else _STAGES
    groups = group_parameters(net, _without_later_stems(matcher), reverse=True)
    order = [name for name, _ in net.named_parameters()]
    if hasattr(net, "blocks"):
        groups |= {name: 0 for name in order if name.startswith(_BEFORE_BLOCKS)}
    behind = {name for name in order if groups[name] and _BEHIND_BLOCKS.match(name)}
    keys = _split_stages({name: groups[name] for name in order if name not in behind})
    before = next(iter(keys.values()))
    for name in keys:
        if _MERGING.match(name):
            keys[name] = before
        before = keys[name]
        if shared := _SHARED.match(name):
            first = f"serial_blocks{shared[1]}.0."
            keys[name] = next(key for other, key in keys.items() if other.startswith(first))
    places = {key: place for place, key in enumerate(sorted(set(keys.values())))}
    top = 1 + max(places.values())
    return {name: places[keys[name]] if name in keys else top for name in order}, top - 1


def _split_stages(groups: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return (group, block in it) of every parameter, in the order of the parameters.

    What a stage has in front of its blocks counts with the first, what it has behind with the last.
    """
    keys: dict[str, tuple[int, int]] = {}
    last: dict[int, int] = {}
    for name, group in groups.items():
        if inner := _INNER_BLOCK.match(name):
            last[group] = int(inner[1])
        keys[name] = (group, last.get(group, 0))
    return keys


def _without_later_stems(matcher: Any) -> Any:
    """Return a matcher in which a patch embedding between stages counts with the block before."""
    if not isinstance(matcher, Mapping):
        return matcher
    first = next(iter(matcher))
    return {
        name: [(spec, _WITH_PREVIOUS)] if name.startswith("stem") and name != first else spec
        for name, spec in matcher.items()
    }


# What timm's own grouping puts behind the last block.
_HEADS = re.compile(r"^(norm|fc_norm|head|head_norm|norm_head|final_conv|conv_head|bn2)\.")


def timm_layers(net: Any) -> int:
    """Return the number of layers by timm's own grouping; 0 where it is the grouping here.

    Args:
        net: A timm network.
    """
    matcher = net.group_matcher() if hasattr(net, "group_matcher") else _STAGES
    groups = group_parameters(net, matcher, reverse=True)
    top = 1 + max(group for name, group in groups.items() if not _HEADS.match(name))
    theirs = {name: top if _HEADS.match(name) else group for name, group in groups.items()}
    return 0 if theirs == number_layers(net)[0] else top - 1
