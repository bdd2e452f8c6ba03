"""What a built detector is, in facts, and the proof that it is what its protocol states.

Facts are computed from modules and parameters, never copied from the recipe, so that a network
which ignores a setting is found out before it trains.
"""

from collections.abc import Mapping
from typing import Any

from detectron2.modeling import FPN

from backbones.base.errors import UserError
from backbones.features import Backbone
from backbones.timm_networks.swin import shifted_windows
from backbones.vit.windows_rule import attention_in_words, shifts_in_words
from detection.config import DetectionConfig, at_depth
from detection.model.adapter import PlainAdapter
from detection.model.detector import Detector
from detection.protocols import DIGITS, READS, numbers_in_words, patches_in_words, stated_facts

# Any of these is what "relative positions" asks for: a network keeps those of its own.
_RELATIVE = ("decomposed", "rotary", "bias table", "bias MLP", "iRPE")


def detector_facts(
    detector: Detector, config: DetectionConfig, lr_factors: Mapping[str, float]
) -> dict[str, str]:
    """Return the facts that a protocol is about, by name, in words.

    Args:
        detector: Built, with its weights.
        config: Its recipe.
        lr_factors: Factor of the learning rate by name of the backbone's parameters.
    """
    net = detector.net
    attention = net.block_attention()
    neck = detector.backbone
    facts = {"blocks": str(net.num_layers)}
    if len(net.strides) == 1:
        facts["patches"] = patches_in_words(net.strides[0])
    if attention:
        facts["attention"] = attention_in_words([block.window for block in attention])
        facts["relative positions"] = ", ".join(sorted({block.relative for block in attention}))
        facts["absolute positions"] = net.absolute_positions() or "the network's own"
    else:
        name = type(getattr(net, "net", net)).__name__
        facts["attention"] = f"{name}, as it is built"
        if stages := shifted_windows(net):
            facts["windows"] = shifts_in_words(stages)
    return facts | {
        "neck reads": READS[neck.features] if isinstance(neck, PlainAdapter) else _taps(neck),
        "drop path": numbers_in_words(drop_path_by_block(net)),
        "learning-rate factors": _by_layer(net, lr_factors),
        "normalisation": _normalisation(detector),
        "neck": _neck(neck, config),
        "padding": _padding(neck),
    }


def prove(
    facts: Mapping[str, str], config: DetectionConfig, net: Backbone, factors: Mapping[str, float]
) -> None:
    """Refuse a detector that is not what its protocol states.

    Args:
        facts: From ``detector_facts``.
        config: The recipe.
        net: The backbone.
        factors: Factor of the learning rate by name of the backbone's parameters.

    Raises:
        UserError: A fact differs; names all that do.
    """
    wrong = [
        f"{name}: {stated} stated, {facts.get(name, 'nothing')} found"
        for name, stated in _stated(config, net).items()
        if facts.get(name) != stated
    ]
    shifts = [shift == (i % 2) * (window // 2) for stage in shifted_windows(net)
              for i, (window, shift) in enumerate(stage)]  # fmt: skip
    if not all(shifts):
        wrong.append("windows: shifted in every second block stated, another shift found")
    relative = {block.relative for block in net.block_attention()}
    if config.model.relative_positions and relative and not _is_one_kind(relative):
        wrong.append(f"relative positions: one kind stated, {', '.join(sorted(relative))} found")
    decay = at_depth(config.optim.layer_decay, net.num_layers)
    top = net.num_layers + 1
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    for name in sorted(trained & set(factors)):
        stated = decay ** (top - net.layer_id(name))
        if abs(factors[name] - stated) > 10**-DIGITS * stated:
            wrong.append(f"learning-rate factor of {name}: {stated:g} stated, {factors[name]:g}")
            break
    if wrong:
        raise UserError(
            f"The detector is not what {config.protocol} states ({'; '.join(wrong)}); "
            "use another network or recipe."
        )


def drop_path_by_block(net: Backbone) -> list[float]:
    """Return the largest rate of stochastic depth in each block, as it is built."""
    layers = {name: net.layer_id(name) for name, _ in net.named_parameters()}
    rates = [0.0] * net.num_layers
    for prefix, module in net.named_modules():
        rate = getattr(module, "drop_prob", None)
        if type(module).__name__ != "DropPath" or rate is None:
            continue
        parent = prefix.rpartition(".")[0] + "."
        layer = next((at for name, at in layers.items() if name.startswith(parent)), 0)
        if 1 <= layer <= net.num_layers:
            rates[layer - 1] = max(rates[layer - 1], float(rate))
    return rates


def _stated(config: DetectionConfig, net: Backbone) -> dict[str, str]:
    """Return the facts that a recipe fixes for a plain network; others follow their own design."""
    if len(net.strides) > 1:
        return {}
    stated = stated_facts(config, net.num_layers)
    if not net.block_attention():
        stated.pop("attention", None)
    return stated


def _is_one_kind(relative: set[str]) -> bool:
    return len(relative) == 1 and relative <= set(_RELATIVE)


def _taps(neck: Any) -> str:
    strides = neck.bottom_up.output_shape().values() if isinstance(neck, FPN) else ()
    return f"maps of stride {', '.join(str(shape.stride) for shape in strides)}"


def _by_layer(net: Backbone, factors: Mapping[str, float]) -> str:
    """Return the factor of each layer that trains, stem first."""
    found: dict[int, set[float]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad and name in factors:
            found.setdefault(net.layer_id(name), set()).add(factors[name])
    if not found:
        return "backbone frozen"
    return "; ".join(
        f"{layer}: {numbers_in_words(sorted(values))}" for layer, values in sorted(found.items())
    )


def _normalisation(detector: Any) -> str:
    mean, std = (
        [round(float(value) / 255, DIGITS) for value in tensor.flatten()]
        for tensor in (detector.pixel_mean, detector.pixel_std)
    )
    return f"mean {numbers_in_words(mean)}; standard deviation {numbers_in_words(std)}"


def _neck(neck: Any, config: DetectionConfig) -> str:
    kind = "simple pyramid" if isinstance(neck, PlainAdapter) else type(neck).__name__
    levels = [name for name in neck.output_shape() if name.startswith("p")]
    channels = neck.output_shape()[levels[0]].channels
    norm = config.model.neck_norm or "no norm"
    return f"{kind}, {levels[0]} to {levels[-1]}, {channels} channels, {norm}"


def _padding(neck: Any) -> str:
    square = neck.padding_constraints.get("square_size", 0)
    return f"square of {square}" if square else f"multiple of {neck.size_divisibility}"
