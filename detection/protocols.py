"""Which protocol a backbone is measured under: its recipe's, another one by name, or none.

A protocol states facts about the detector. Where a network cannot have them, the plan gives it the
nearest protocol that it can keep, under an id of its own, whose rows never share a table with the
others; or refuses it in one sentence. ``detection.model.facts`` proves the rest on the detector.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from backbones.base.errors import UserError
from backbones.spec import BackboneSpec, BuildOptions
from backbones.training.held import HAS_STATISTICS, Held
from backbones.vit.windows_rule import attention_in_words, global_blocks
from detection.config import SIZE_DIVISIBILITY, DetectionConfig, at_depth

# Coarsest level that is a map of the backbone; those above are subsamples of it.
_COARSEST_MAP = 5

# What the neck reads of a plain network, by ``ModelConfig.features``.
READS = {
    "last": "last block, no final norm",
    "normed-last": "last block, final norm",
    "normed-last4": "last four blocks, final norm",
}
# Rates and factors are compared and shown with this many digits.
DIGITS = 4

# What ``squared_name`` and ``_renamed`` put into ids, and what that means.
_SQUARE = "+square"
_ATTENTION = {
    "-global": "windows are not supported for it, so every block attends as it is built",
    "-own-windows": "it keeps the attention windows of its own design",
}

# Networks of one size may want more than whole strides: windows that divide the map (HaloNet).
_MULTIPLES = (1, 2, 4, 8)


def fit(config: DetectionConfig, spec: BackboneSpec) -> DetectionConfig:
    """Return the recipe that a backbone is measured by.

    Args:
        config: The recipe, overrides applied and resolved.
        spec: The backbone.

    Raises:
        UserError: The backbone cannot be measured by this recipe.
    """
    if spec.layout == "plain":
        config = _fit_attention(config, spec)
    else:
        _check_levels(config, spec)
    # On maps of tokens, a network runs at any size.
    on_maps = spec.windows and (config.model.window_size or config.model.relative_positions)
    return _fit_size(config, spec) if spec.fixed_size and not on_maps else config


def held(config: DetectionConfig, spec: BackboneSpec) -> Held:
    """Return how many images a device may hold at once without changing the results.

    detectron2 averages losses over what it samples in a micro-batch, so that those of the recipe
    have to stay whole (``Detector.losses_by_part``).

    Args:
        config: From ``fit``.
        spec: The backbone.
    """
    model, fixed = config.model, ""
    if not config.data.square:
        fixed = "with data.square=false, images are padded to the largest that is held with them"
    elif spec.batch_norm and not model.freeze_batchnorm and model.freeze != "all":
        fixed = spec.name + HAS_STATISTICS
    elif {"BN", "SyncBN"} & {model.neck_norm, model.head_norm}:
        fixed = "neck or heads have batch norms, which see the images that are held at once"
    return Held(config.schedule.batch_size_per_device, fixed, whole=True)


def build_options(config: DetectionConfig, spec: BackboneSpec) -> BuildOptions:
    """Return how a recipe builds a backbone.

    Args:
        config: From ``fit``.
        spec: The backbone.
    """
    model = config.model
    return BuildOptions(
        img_size=config.data.img_size,
        drop_path=at_depth(model.drop_path, spec.num_layers),
        window_size=model.window_size,
        global_blocks=model.global_blocks,
        relative_positions=model.relative_positions,
        tile_positions=model.tiled_positions,
        keep_windows=True,
    )


def stated_facts(config: DetectionConfig, num_layers: int) -> dict[str, str]:
    """Return the facts that a recipe fixes for a plain network, by name, in words.

    A network whose own attention is kept as it is built has no stated attention, unless its windows
    are those of the recipe.

    Args:
        config: From ``fit``.
        num_layers: Blocks of the network.
    """
    model = config.model
    rate = at_depth(model.drop_path, num_layers)
    rates = [rate * block / max(1, num_layers - 1) for block in range(num_layers)]
    stated = {"neck reads": READS[model.features], "drop path": numbers_in_words(rates)}
    if model.window_size or model.attention != "own":
        options = BuildOptions(window_size=model.window_size, global_blocks=model.global_blocks)
        blocks = range(num_layers)
        everywhere = global_blocks(num_layers, options) if model.window_size else blocks
        windows = [0 if block in everywhere else model.window_size for block in blocks]
        stated["attention"] = attention_in_words(windows)
    return stated


def patches_in_words(stride: int) -> str:
    """Return the patches of a plain network, and what its neck makes of them.

    Args:
        stride: Side of a patch in pixels.
    """
    read = 2 ** round(math.log2(stride))
    return f"{stride} pixels" + (f", map resampled to stride {read}" if read != stride else "")


def numbers_in_words(values: Sequence[float]) -> str:
    """Return numbers as facts show them, with ``DIGITS`` digits."""
    return ", ".join(f"{value:.{DIGITS}g}" for value in values)


def _fit_attention(config: DetectionConfig, spec: BackboneSpec) -> DetectionConfig:
    """Give a plain network the attention that the recipe asks for, or its own under another id."""
    model = config.model
    if model.global_blocks and max(model.global_blocks) >= spec.num_layers:
        raise UserError(
            f"{spec.name} has {spec.num_layers} blocks, but {config.protocol} attends globally in "
            f"block {max(model.global_blocks)}; use another recipe."
        )
    if model.window_size and model.tiled_positions and not spec.windows:
        raise UserError(
            f"{spec.name} cannot attend in windows with tiled positions, which {config.protocol} "
            "states; use another recipe."
        )
    if not (model.window_size or model.relative_positions):
        return config
    if spec.windows:
        of_timm = spec.name.startswith("timm:")
        return replace(config, model=replace(model, attention="maps" if of_timm else "zoo"))
    if spec.own_window and spec.own_window == model.window_size:
        return replace(config, model=replace(model, attention="own"))
    own = replace(model, window_size=0, relative_positions=False, attention="own")
    suffix = "-own-windows" if spec.own_window else "-global"
    return replace(config, protocol=_renamed(config.protocol, suffix), model=own)


def _renamed(protocol: str, suffix: str) -> str:
    """Return ``vitdet-global/v1+25ep`` of ``vitdet/v1+25ep``."""
    family, slash, rest = protocol.partition("/")
    return f"{family}{suffix}{slash}{rest}"


def _check_levels(config: DetectionConfig, spec: BackboneSpec) -> None:
    if config.model.features != "last":
        raise UserError(
            f"{spec.name}: {config.protocol} reads the tokens of a plain network, and this one has "
            f"maps of strides {spec.strides}; use another recipe."
        )
    needed = [2**level for level in config.model.rpn_levels if level <= _COARSEST_MAP]
    if missing := [stride for stride in needed if stride not in spec.strides]:
        raise UserError(
            f"{spec.name} has maps of strides {spec.strides}, but {config.protocol} needs stride "
            f"{missing[0]}; use another network, or other model.rpn_levels and model.roi_levels."
        )


def _fit_size(config: DetectionConfig, spec: BackboneSpec) -> DetectionConfig:
    """Give a network that runs only at the size it is built for a square that it runs at."""
    data = config.data
    longest = data.img_size
    if not data.square:
        longest = max(data.max_size, config.evaluation.max_size, *data.short_sides)
    sizes = [_up(longest, SIZE_DIVISIBILITY * multiple) for multiple in _MULTIPLES]
    size = square_for(spec, sizes[:1] if data.square else sizes, config.protocol)
    return config if data.square else _squared(config, size)


def square_for(spec: BackboneSpec, sizes: Sequence[int], protocol: str) -> int:
    """Return the first side of a square, in pixels, that a network of one size can be built for.

    Args:
        spec: The network.
        sizes: Sides to try, the one that the protocol needs first.
        protocol: For the message.

    Raises:
        UserError: It can be built for none of them.
    """
    for size in sizes:
        if spec.runs_at is None or spec.runs_at(size):
            return size
    raise UserError(
        f"{spec.name} runs only at the square size that it is built for, and not at the "
        f"{sizes[0]} x {sizes[0]} pixels that {protocol} needs; use another network or task."
    )


def squared_name(protocol: str, size: int) -> str:
    """Return the id of a protocol whose images are padded to squares of ``size`` pixels."""
    protocol, mark, custom = protocol.partition("+custom:")
    return f"{protocol}{_SQUARE}{size}{mark}{custom}"


def measured_as(name: str, asked: str, found: str) -> str:
    """Return, in one sentence, why a network is measured by another protocol; "" where it is not.

    Args:
        name: Of the network.
        asked: Protocol of the recipe.
        found: Protocol of the recipe after ``fit``.
    """
    size = found.partition(_SQUARE)[2].partition("+")[0] if _SQUARE not in asked else ""
    family = found.partition("/")[0].removeprefix(asked.partition("/")[0])
    reasons = [_ATTENTION[family]] if family in _ATTENTION else []
    if size:
        reasons.append(
            "it runs only at the square size that it is built for, so images are padded to squares "
            f"of {size} pixels, and published numbers by another rule do not compare"
        )
    if not reasons:
        return ""
    return f"{name} is measured by {found} and not by {asked}: {'; '.join(reasons)}."


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _squared(config: DetectionConfig, size: int) -> DetectionConfig:
    """Return the recipe with every batch padded to a square, under an id of its own."""
    return replace(
        config,
        protocol=squared_name(config.protocol, size),
        data=replace(config.data, square=True, img_size=size),
    )
