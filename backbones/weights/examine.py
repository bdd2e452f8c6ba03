"""Looks into a weights file while a run is planned: which format, which network, does it fit."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isqrt
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from backbones.base.errors import PreflightError, UserError
from backbones.catalog import TIMM, get_spec, spec_for, zoo
from backbones.checkpoint import Checkpoint
from backbones.features import Backbone
from backbones.spec import BackboneSpec, BuildOptions
from backbones.timm_networks.backbone import NET
from backbones.weights.content import Content, flatten, unmerged
from backbones.weights.facts import deviations, fact, named
from backbones.weights.fingerprint import ranked, refuse_unread
from backbones.weights.fit import Fit, RefusedFitError, first, hold
from backbones.weights.foreign import read_foreign
from backbones.weights.formats import FORMATS
from backbones.weights.layout import Format
from backbones.weights.loading import (
    find,
    flatten_file,
    format_of,
    how,
    load_into,
    wish_of,
    without_numbers,
)
from backbones.weights.use import WeightsUse
from backbones.weights.wish import Wish

_ZOO = "zoo"
# What projects call a table of absolute positions.
_TABLES = ("pos_embed", "position_embeddings", "positional_embedding", "pos_embedding")
# Channels of ViT's sizes as timm's names spell them.
_WIDTHS = {"tiny": 192, "small": 384, "base": 768, "large": 1024, "huge": 1280}
_WIDTHS |= {"so400m": 1152}


@dataclass(frozen=True)
class Question:
    """What is to be found out about a file.

    Attributes:
        path: The file, or the index of its shards.
        arch: Name of the backbone; empty asks.
        form: Name of the format; empty asks.
        wish: Where the network lies in the file.
        config: Of the ``config.json`` next to the file.
        plugins: Folder of further backbones.
    """

    path: Path
    arch: str = ""
    form: str = ""
    wish: Wish = field(default_factory=Wish)
    config: Mapping[str, Any] = field(default_factory=dict)
    plugins: Path | None = None


@dataclass(frozen=True)
class Answer:
    """What a file turned out to be.

    Attributes:
        arch: Name of the backbone that its network fits.
        fit: Where it lies, and in which format.
        img_size: Side in pixels of the images it was made with, where the file says so.
    """

    arch: str
    fit: Fit
    img_size: int | None


def examine(question: Question) -> Answer:
    """Return the format of a file, its backbone, and where in it the network lies.

    Raises:
        UserError: Several backbones or several networks in the file fit.
        PreflightError: The file cannot be read, or nothing fits.
    """
    try:
        content = flatten({**_only_facts(question.config), **read_foreign(question.path)})
        if not content.tensors:
            raise PreflightError(f"holds {first(content.holds)} and no weights.")
        if not any(tensor.numel() for tensor in content.tensors.values()):
            raise PreflightError(
                "holds empty tensors only, since DeepSpeed's ZeRO keeps their numbers in other "
                "files; run zero_to_fp32.py in its folder and use what it writes."
            )
        forms = _forms(question, content)
        refuse_unread(forms[0])
        arch, fit = _first_fit(question, content, forms)
    except UserError as error:
        text = str(error)
        named_already = str(question.path) in text
        raise error.reworded(text if named_already else f"{question.path} {text}") from error
    return Answer(arch, fit, fact(content.facts, "image"))


def settings_of_network(stated: Mapping[str, Any], form: Format) -> str:
    """Return what settings next to a file say otherwise than its format, see ``facts.deviations``.

    Args:
        stated: As ``folders.settings_of`` returns them.
        form: Format of the file.

    Raises:
        PreflightError: They contradict each other.
    """
    return deviations(flatten(stated).facts, form)


def verify(checkpoint: Checkpoint, plugins: Path | None = None) -> WeightsUse:
    """Make sure, before a run is started, that a checkpoint's file fits its backbone.

    Returns:
        What the file says about its use.

    Raises:
        UserError: Two networks in the file fit and nothing says which is meant.
        PreflightError: The file cannot be read or does not fit.
    """
    use = WeightsUse.of_checkpoint(checkpoint)
    if checkpoint.path is None:
        return use
    spec = spec_for(checkpoint, plugins)
    loaded, fit = _fitted(checkpoint, BuildOptions(), plugins)
    names, before = loaded.state_dict(), _bare(spec).state_dict()
    behind = any(n.removeprefix(NET) == "fc_norm.weight" and n not in before for n in names)
    table = _side_of_table(checkpoint, names)
    said = (*how(fit, checkpoint, spec), *_resized(fit))
    return replace(use, table=table, norm_behind_pooling=behind, said=said)


def _resized(fit: Fit) -> Iterator[str]:
    if fit.resized:
        yield f"position tables resized for the network: {first(fit.resized)}"


def _side_of_table(checkpoint: Checkpoint, names: Iterable[str]) -> int | None:
    """Return the side in patches of a file's table of absolute positions.

    The file is asked, not the network: some networks of timm resize the table when they take it.

    Args:
        checkpoint: With a file.
        names: Of the network's tensors.

    Returns:
        0 where the network has no table, None where the file has none of a known name.
    """
    if not any(name.removeprefix(NET) == "pos_embed" for name in names):
        return 0
    tensors = flatten_file(checkpoint).tensors
    tables = (t for n, t in tensors.items() if n.rpartition(".")[2] in _TABLES and t.ndim >= 2)
    # SAM's tables have rows and columns, the others are lists of patches.
    return next((t.shape[-2] if t.ndim == 4 else isqrt(t.shape[-2]) for t in tables), None)


def as_loaded(
    checkpoint: Checkpoint, options: BuildOptions, plugins: Path | None = None
) -> Backbone:
    """Return a backbone as it will be when it has taken a checkpoint's file, without numbers.

    Args:
        checkpoint: With a file.
        options: How this use varies the backbone.
        plugins: Folder of further backbones.

    Returns:
        On the meta device; norms and tables are those of the weights.

    Raises:
        UserError: As ``verify``.
        PreflightError: As ``verify``.
    """
    return _fitted(checkpoint, options, plugins)[0]


def _fitted(
    checkpoint: Checkpoint, options: BuildOptions, plugins: Path | None
) -> tuple[Backbone, Fit]:
    """Return a backbone as ``as_loaded`` does, and where in the file its weights lie."""
    spec = spec_for(checkpoint, plugins)
    form = format_of(checkpoint, spec)
    content = flatten_file(checkpoint)
    with torch.device("meta"):
        backbone = spec.build(options)
    try:
        found = find(content, (form,), spec, backbone, wish_of(checkpoint))
        fit = hold(without_numbers(content), form, found.prefix, spec, backbone)
    except UserError as error:
        raise error.reworded(f"{checkpoint.path} (format {form.name}) {error}") from error
    if _is_suspect([t for n, t in content.tensors.items() if n.startswith(fit.prefix)]):
        # Rare, so that only such a file is loaded to tell whether the network takes those numbers.
        load_into(spec.build(BuildOptions()), spec, checkpoint)
    return backbone, fit


def _is_suspect(tensors: Iterable[Tensor]) -> bool:
    """Tell whether tensors of a file hold NaN or infinity anywhere, or zeros only."""
    numbers = [
        t
        for t in tensors
        if t.is_floating_point() and not t.is_meta and t.layout is torch.strided and t.numel()
    ]
    finite = all(bool(torch.isfinite(t).all()) for t in numbers)
    return not finite or not any(bool(t.any()) for t in numbers)


def _only_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"config": dict(config)} if config else {}


def _first_fit(question: Question, content: Content, forms: Sequence[Format]) -> tuple[str, Fit]:
    """Return the first backbone and format that fit.

    Raises:
        UserError: As ``examine``; no backbone fits, so arch= is needed.
        PreflightError: The file does not fit the backbone that the user named.
    """
    if question.arch:
        # One search over all formats, so that a refusal names the format that comes nearest.
        spec = get_spec(question.arch, question.plugins)
        return question.arch, find(content, forms, spec, _bare(spec), question.wish)
    tried = 0
    refused: RefusedFitError | None = None
    for form in forms:
        for arch in _archs(question, content, form):
            tried += 1
            try:
                spec = get_spec(arch, question.plugins)
                return arch, find(content, (form,), spec, _bare(spec), question.wish)
            except RefusedFitError as error:
                refused = refused or error
            except PreflightError:
                continue
    if refused is not None:
        raise refused
    if why := unmerged(content.tensors):
        raise PreflightError(f"{why}.")
    what = f" as {forms[0].name}" if len(forms) == 1 else ""
    raise UserError(
        f"needs arch=: {'no' if tried else 'nothing tells a'} backbone that this program tries by "
        f"itself fits it{what}; write ckpt:FILE?arch=BACKBONE, with a name of run.py list or "
        "timm:NAME."
    )


def _forms(question: Question, content: Content) -> list[Format]:
    """Return the formats to try, the surest first."""
    if question.form:
        return [FORMATS[question.form]]
    return ranked(content, question.path.name, question.config.get("model_type"))


def _archs(question: Question, content: Content, form: Format) -> Iterator[str]:
    """Yield the backbones to try for a file, the likeliest first."""
    stated = named(content.facts)
    architecture = question.config.get("architecture")
    for name in (architecture, stated):
        if isinstance(name, str) and timm.is_model(name.partition(".")[0]):
            yield f"{TIMM}{name}"
    facts = {what: fact(content.facts, what) for what in ("patch", "image", "width", "depth")}
    for pattern in form.archs or (_ZOO,):
        if pattern == _ZOO:
            known = zoo(question.plugins)
            # Twelve heads in 384 channels are MoCo v3's, and facts refuse the others for it.
            names = sorted(known, key=lambda name: (name.endswith("-h12"), name))
            yield from (name for name in names if _may_be(known[name], content))
        elif pattern.startswith(TIMM):
            names = timm.list_models(pattern.removeprefix(TIMM).format(**facts))
            yield from (f"{TIMM}{name}" for name in names if _has_width(name, content))
        else:
            yield pattern


def _may_be(spec: BackboneSpec, content: Content) -> bool:
    """Tell, without building it, whether a network may be in a file: by widths and depth."""
    sides = {length for tensor in content.tensors.values() for length in tensor.shape}
    if not set(spec.channels) <= sides:
        return False
    if spec.layout != "plain":
        return True
    numbers = {int(word) for name in content.tensors for word in re.findall(r"\d+", name)}
    return spec.num_layers - 1 in numbers


def _has_width(name: str, content: Content) -> bool:
    """Tell whether a network of timm whose name has a ViT's size may be in a file."""
    widths = {width for size, width in _WIDTHS.items() if f"_{size}_" in f"{name}_"}
    sides = {length for tensor in content.tensors.values() for length in tensor.shape}
    return not widths or not name.startswith(("vit_", "deit_", "beit")) or bool(widths & sides)


def _bare(spec: BackboneSpec) -> Backbone:
    """Build a backbone without numbers."""
    with torch.device("meta"):
        return spec.build(BuildOptions())
