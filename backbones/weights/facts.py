"""What a file says about its network beside the tensors, held against the backbone."""

import re
from collections.abc import Mapping
from typing import Any

from backbones.base.errors import PreflightError
from backbones.features import Backbone
from backbones.spec import BackboneSpec
from backbones.weights.adapt import ACTIVATIONS, num_heads, plain_mlps
from backbones.weights.layout import Format

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
    r"text|decoder|predictor|projector|head_|teacher_|audio|data|aug", re.IGNORECASE
)
# Attention heads of the sizes that Dosovitskiy et al. 2021 and Touvron et al. 2021 name.
_HEADS_OF_SIZE = {"tiny": 3, "small": 6, "base": 12, "large": 16, "huge": 16}


def fact(facts: Mapping[str, Any], what: str) -> int | None:
    """Return a number that a file states, None where it states none or several.

    Args:
        facts: Plain values by full name, see ``content.Content``.
        what: "heads", "patch", "width", "depth" or "image".
    """
    found = set()
    for name, value in facts.items():
        *path, last = name.split(".")
        plain = isinstance(value, int) and not isinstance(value, bool)
        if last in _WORDS[what] and plain and not _OTHERS.search(".".join(path)):
            found.add(value)
    return found.pop() if len(found) == 1 else None


def stated(facts: Mapping[str, Any], word: str) -> str:
    """Return a setting of the network in words, "" where a file states none or several."""
    found = {
        value
        for name, value in facts.items()
        if name.rpartition(".")[2] == word
        and isinstance(value, str)
        and not _OTHERS.search(name.rpartition(".")[0])
    }
    return found.pop() if len(found) == 1 else ""


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
    """Raise where a plain ViT is not the one that its file describes.

    Shapes cannot tell the number of heads at all, and other facts say in clear words what a list of
    shapes would only hint at.

    Raises:
        PreflightError: With the fact, both values and what to name instead.
    """
    act = stated(facts, "hidden_act")
    if act and act not in ACTIVATIONS and plain_mlps(backbone):
        raise PreflightError(
            f"states hidden_act {act!r}, which is not supported; the blocks of {spec.name} take "
            f"{', '.join(sorted(ACTIVATIONS))}."
        )
    if spec.layout != "plain":
        return
    width = spec.channels[-1]
    has = {
        "heads": num_heads(backbone),
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
