"""What a file holds, as one flat dictionary: tensors by full name, and the facts beside them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from backbones.base.errors import PreflightError
from backbones.weights.pickled import Skipped, state_of

# Entries of checkpoints that hold other tensors than weights.
_NOT_WEIGHTS = re.compile(
    r"^(.*optim.*|.*optimizer.*|opt|.*sched.*|.*scaler.*|amp|.*loss.*|.*rng.*|.*random_state.*"
    r"|callbacks|loops|queue.*|metrics?|buffers?_state)$"
)
# Wrappers inside a network, which stand before the names of single modules: torch.compile, FSDP,
# activation checkpointing, Fabric and DeepSpeed strategies.
_WRAPPERS = re.compile(
    r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module"
    r"|_flax_module)\."
)
_DOTLESS = re.compile(r"(|.*\.)model_ema\.num_updates$")
_DEEPEST = 6
_SIMPLE = (str, int, float, bool)


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        tensors: By full name: the keys of the dictionaries around it and its own name, joined by
            dots, without the segments that wrappers put in between.
        facts: Plain values by full name: arguments, settings, names of networks.
        holds: First keys of the file, for messages.
        unnamed: Full names of lists of tensors, which nobody can tell apart.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    holds: tuple[str, ...]
    unnamed: tuple[str, ...] = ()


# Names of tensors that stand for a change of other tensors, each with what to do.
_UNMERGED = (
    (
        re.compile(r"\.?lora_(A|B|embedding_[AB]|magnitude_vector)(\.|$)|\.hada_w|\.ia3_l"),
        "adapters (LoRA or similar); merge them into the weights (merge_and_unload of peft) "
        "and save those",
    ),
    (
        re.compile(r"\.parametrizations\.|\.weight_[gvu]$|\.weight_orig$"),
        "parametrised weights (weight_norm, spectral_norm or pruning); remove the "
        "parametrisation and save the plain weights",
    ),
    (
        re.compile(r"\.(SCB|absmax|quant_map|qweight|qzeros|zero_point|_packed_params.*)$"),
        "quantised weights (torch, bitsandbytes or GPTQ); save them as floating point",
    ),
)


# Heads of pretraining, whose last layers are parametrised in many projects.
_HEADS = re.compile(r"(^|\.)(\w*head\w*|last_layer|project\w*|predict\w*|decoder\w*)\.")


def unmerged(names: Iterable[str]) -> str:
    """Return a clause on tensors that are not plain weights and what to do, "" for none.

    Args:
        names: Of the tensors of a file; those of heads are passed over.
    """
    own = [name for name in names if not _HEADS.search(name)]
    for pattern, clause in _UNMERGED:
        found = next(filter(pattern.search, own), "")
        if found:
            return f"holds {found}: {clause}"
    return ""


def flatten(content: Mapping[str, Any]) -> Content:
    """Return the content of a checkpoint as one flat dictionary.

    Args:
        content: As read; dictionaries in dictionaries, tensors, and whatever trainers add.

    Raises:
        PreflightError: Two tensors have one name behind their wrappers' prefixes.
    """
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Any] = {}
    unnamed: list[str] = []
    for name, value in _leaves(content, (), 0):
        if isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
            unnamed.append(name)
        elif isinstance(value, Tensor):
            plain = _WRAPPERS.sub("", name)
            if plain in tensors:
                raise PreflightError(f"two tensors are called {plain} behind their prefixes.")
            tensors[plain] = value
        else:
            facts[name] = value
    holds = tuple(str(key) for key in content)
    return Content(_with_dots(tensors), facts, holds, tuple(unnamed))


def _with_dots(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the averaged copies of LitEma, whose names lack their dots, the raw copies' names.

    ``model_ema.blocks0attnqkvweight`` stands next to ``model.blocks.0.attn.qkv.weight``.
    """
    runs = {name: _DOTLESS.match(name) for name in tensors}
    around = {found[1] for found in runs.values() if found}
    named = {
        f"{first}model_ema.{own.replace('.', '')}": f"{first}model_ema.{own}"
        for first in around
        for name in tensors
        if (own := name.removeprefix(f"{first}model.")) != name
    }
    return {named.get(name, name): tensor for name, tensor in tensors.items()}


def _leaves(value: Any, path: tuple[str, ...], depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (Tensor, *_SIMPLE)):
        yield ".".join(path), value
    elif isinstance(value, Mapping) and depth < _DEEPEST:
        for key, inner in value.items():
            if isinstance(inner, Tensor | str) or not _NOT_WEIGHTS.match(str(key)):
                yield from _leaves(inner, (*path, str(key)), depth + 1)
    elif isinstance(value, list | tuple):
        yield ".".join(path), value
    elif isinstance(value, Skipped) and (state := state_of(value)):  # a pickled module
        yield from ((".".join((*path, name)), tensor) for name, tensor in state.items())
    elif depth < _DEEPEST and hasattr(value, "__dict__"):  # parsed arguments, settings objects
        yield from _leaves(vars(value), path, depth + 1)
