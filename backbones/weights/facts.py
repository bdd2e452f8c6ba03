"""What a file says about its network in addition to the tensors, held against the backbone."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backbones.base.errors import PreflightError
from backbones.features import Backbone
from backbones.spec import BackboneSpec
from backbones.timm_networks.backbone import TimmBackbone
from backbones.weights.adapt import ACTIVATIONS, computes, mlps_of, num_heads
from backbones.weights.layout import Format

# Settings of transformers that no tensor shows.
ACT, EPS = "hidden_act", "layer_norm_eps"
# Words of argument parsers, config.json and model builders for one thing.
_WORDS = {
    "heads": ("num_heads", "num_attention_heads", "n_heads", "nhead"),
    "patch": ("patch_size",),
    "width": ("embed_dim", "hidden_size", "width"),
    "depth": ("depth", "num_hidden_layers", "num_layers"),
    "image": ("img_size", "image_size", "input_size"),
}
_NAMES = ("arch", "model", "architecture", "model_name", "model_type_name")
# Settings of other networks in the same file.
_OTHERS = re.compile(
    r"text|decoder|predictor|projector|prompt|head_|teacher_|audio|data|aug", re.IGNORECASE
)
# Attention heads of the sizes that Dosovitskiy et al. 2021 and Touvron et al. 2021 name.
_HEADS_OF_SIZE = {"tiny": 3, "small": 6, "base": 12, "large": 16, "huge": 16}


def fact(facts: Mapping[str, Any], what: str) -> int | None:
    """Return a number that a file states, None where it states none or several.

    Args:
        facts: Plain values by full name, see ``content.Content``.
        what: "heads", "patch", "width", "depth" or "image".
    """
    values = _values(facts, _WORDS[what])
    found = {v for v in values if isinstance(v, int) and not isinstance(v, bool)}
    return found.pop() if len(found) == 1 else None


def activation_stated(facts: Mapping[str, Any]) -> str:
    """Return the activation that transformers' settings state, "" where they state none.

    Raises:
        PreflightError: They state several.
    """
    found = sorted({value for value in _values(facts, (ACT,)) if isinstance(value, str)})
    if len(found) > 1:
        raise PreflightError(
            f"states {ACT} {' and '.join(found)}; keep the one of the image network in config.json."
        )
    return found[0] if found else ""


def deviations(facts: Mapping[str, Any], form: Format) -> str:
    """Return the settings of a file that make its network compute otherwise than its format does.

    Args:
        facts: Of the settings next to the file.
        form: Format of the file.

    Returns:
        As options, ``hidden_act=relu&layer_norm_eps=0.001``; empty for none.
    """
    act, eps = activation_stated(facts), number_stated(facts, EPS)
    usual = form.activation or "gelu"
    parts = [f"{ACT}={act}"] if act and ACTIVATIONS.get(act) != ACTIVATIONS[usual] else []
    own = form.norm_eps if form.stated_eps is None else form.stated_eps
    parts += [f"{EPS}={eps:g}"] if eps is not None and eps != own else []
    return "&".join(parts)


def number_stated(facts: Mapping[str, Any], word: str) -> float | None:
    """Return a setting of the network that is a number, None where a file states none or several.

    Args:
        facts: Plain values by full name, see ``content.Content``.
        word: The setting's name.
    """
    found = {float(v) for v in _values(facts, (word,)) if isinstance(v, int | float)}
    return found.pop() if len(found) == 1 else None


def _values(facts: Mapping[str, Any], words: Sequence[str]) -> Iterator[Any]:
    """Yield what a file states under some words, settings of other networks in it left out."""
    for name, value in facts.items():
        path, _, last = name.rpartition(".")
        if last in words and not _OTHERS.search(path):
            yield value


def named(facts: Mapping[str, Any]) -> str:
    """Return the name of the network that a file states, "" where it states none."""
    for word in _NAMES:
        for name, value in facts.items():
            if name.split(".")[-1] == word and isinstance(value, str) and name.count(".") <= 1:
                return value
    return ""


def heads_stated(facts: Mapping[str, Any], form: Format, width: int) -> int | None:
    """Return the attention heads that a file or its method states for a plain ViT."""
    stated = fact(facts, "heads")
    if stated is not None:
        return stated
    if width in form.num_heads:
        return form.num_heads[width]
    size = re.search(
        r"(?:vit|deit|beit)_(tiny|small|base|large|huge)\b|(?:vit|deit|beit)_"
        r"(tiny|small|base|large|huge)_",
        named(facts),
    )
    return _HEADS_OF_SIZE[size[1] or size[2]] if size else None


def refuse_contradictions(
    facts: Mapping[str, Any], form: Format, spec: BackboneSpec, backbone: Backbone
) -> None:
    """Raise where a network is not the one that its file describes.

    Shapes cannot tell the number of heads or the activation at all, and other facts say in clear
    words what a list of shapes would only hint at.

    Raises:
        PreflightError: With the fact, both values and what to name instead.
    """
    _refuse_activation(activation_stated(facts), form, spec, backbone)
    _refuse_rotation(facts, spec, backbone)
    if spec.layout == "plain":
        _refuse_other_sizes(facts, form, spec, backbone)
    else:
        _refuse_heads_of_stages(facts, spec, backbone)


def _refuse_activation(act: str, form: Format, spec: BackboneSpec, backbone: Backbone) -> None:
    """Raise for an activation that the network cannot be given."""
    plain, gated = mlps_of(backbone, gated=False), mlps_of(backbone, gated=True)
    if not act or (gated and not plain and not form.names_gates):
        return
    if act not in ACTIVATIONS:
        raise PreflightError(
            f"states {ACT} {act!r}, which is not supported; the MLPs of {spec.name} take "
            f"{', '.join(sorted(ACTIVATIONS))}."
        )
    if not plain and not gated and not computes(backbone, act):
        raise PreflightError(
            f"states {ACT} {act!r}, and {spec.name} computes with another activation; name a "
            "backbone with this one."
        )


def _refuse_rotation(facts: Mapping[str, Any], spec: BackboneSpec, backbone: Backbone) -> None:
    """Raise for rotary positions with other frequencies than the network's."""
    theirs = number_stated(facts, "rope_theta")
    net = backbone.net if isinstance(backbone, TimmBackbone) else backbone
    ours = getattr(getattr(net, "rope", None), "temperature", None)
    if theirs is not None and ours is not None and theirs != ours:
        raise PreflightError(
            f"does not fit {spec.name}: its rotary positions have rope_theta {theirs:g}, those of "
            f"{spec.name} have {ours:g}; name the right arch=."
        )


def _refuse_heads_of_stages(
    facts: Mapping[str, Any], spec: BackboneSpec, backbone: Backbone
) -> None:
    """Raise where the stages of a network have other heads than a file states as a list."""
    lists = {tuple(v) for v in _values(facts, _WORDS["heads"]) if _is_list_of_numbers(v)}
    ours = num_heads(backbone)
    if len(lists) != 1 or not ours:
        return
    theirs = list(dict.fromkeys(lists.pop()))
    if theirs != ours:
        raise PreflightError(
            f"does not fit {spec.name}: the stages of its network have {_listed(theirs)} heads, "
            f"those of {spec.name} have {_listed(ours)} (tensor shapes cannot tell); name the "
            "right arch=."
        )


def _is_list_of_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, int) for item in value)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def _refuse_other_sizes(
    facts: Mapping[str, Any], form: Format, spec: BackboneSpec, backbone: Backbone
) -> None:
    """Raise where a plain ViT has other heads, patches, width or depth than a file states."""
    width, heads = spec.channels[-1], num_heads(backbone)
    has = {
        "heads": heads[0] if heads else None,
        "patch": spec.strides[0],
        "width": width,
        "depth": spec.num_layers,
    }
    says = {what: fact(facts, what) for what in has}
    says["heads"] = heads_stated(facts, form, width)
    words = {"heads": "heads", "patch": "pixels a patch side", "width": "channels"}
    for what, theirs in says.items():
        ours = has[what]
        if theirs is not None and ours is not None and theirs != ours:
            unseen = " (tensor shapes cannot tell)" if what == "heads" else ""
            twelve = (what, theirs, width) == ("heads", 12, 384)
            use = "use arch=vit-s16-h12" if twelve else "name the right arch="
            raise PreflightError(
                f"does not fit {spec.name}: its network has {theirs} {words.get(what, 'blocks')}, "
                f"{spec.name} has {ours}{unseen}; {use}."
            )
