"""First weights of a pretraining: of a whole objective, or of its encoder.

``--init-from`` names either. ``plan_initial`` decides which it is and whether it fits, without
numbers, when the run is planned; ``load_initial`` fills the objective when the run starts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import path_of, sha256_file
from backbones.catalog import get_spec, spec_for
from backbones.checkpoint import Checkpoint, record_path
from backbones.features import Backbone
from backbones.spec import BackboneSpec, BuildOptions
from backbones.training.objective import Objective
from backbones.vit.positions_rule import PositionRule
from backbones.weights.adapt import resize
from backbones.weights.examine import as_loaded
from backbones.weights.foreign import read_foreign
from backbones.weights.loading import build_backbone, format_of
from backbones.weights.source import open_checkpoint
from pretrain.config import PretrainConfig
from pretrain.data.find import find_images
from pretrain.identity import with_classes
from pretrain.method import Method, get_method
from pretrain.objective_file import OBJECTIVE, is_objective, norm_of, read_objective

State = dict[str, Tensor]

_SCHEMES = ("ckpt", "timm", "tv", "hf", "random", OBJECTIVE)
_FLAG = "--init-from"


@dataclass(frozen=True)
class Planned:
    """A pretraining that is being planned.

    Attributes:
        config: The recipe, resolved.
        images: What it trains on, see ``pretrain.data.find.find_images``.
        cache: For listings of large image sets.
        plugins: Folder of further backbones.
    """

    config: PretrainConfig
    images: Path
    cache: Path
    plugins: Path | None = None


def plan_initial(source: str, planned: Planned) -> tuple[Checkpoint, str]:
    """Return the first weights that a user named, after a look whether they fit.

    Args:
        source: A file, or a source of ``open_checkpoint``. A file that is a whole objective of the
            recipe's method, of this program or in the method's official layout, is taken whole;
            any other is the encoder's.
        planned: The run.

    Returns:
        The weights, with the format ``OBJECTIVE`` for a whole objective, and what they fill and
        what stays fresh, as one sentence.

    Raises:
        UserError: The weights are of another method or another backbone.
        PreflightError: They cannot be read or do not fit.
    """
    config, plugins = planned.config, planned.plugins
    method = get_method(config.method)
    if method.needs_classes and not config.data.num_classes:
        config = with_classes(config, method, find_images(planned.images, planned.cache))
    path = _file_of(source)
    objective = _without_numbers(method, config, plugins)
    try:
        file = path if path is not None and path.is_file() else None
        if file is not None and is_objective(file):
            return _whole(file, config), _fill_whole(objective, method.name, file)
        if file is not None and _is_official(objective, file):
            return _whole(file, config), f"whole objective from {file.name} (official layout)"
        named = source if path is None else f"ckpt:{path.absolute()}"
        checkpoint = open_encoder(named, config.backbone, plugins)
        return checkpoint, _check_encoder(objective, checkpoint, config, plugins)
    except UserError as error:
        text = _with_flags(str(error))
        raise error.reworded(text if text.startswith(_FLAG) else f"{_FLAG}: {text}") from error


def _with_flags(text: str) -> str:
    """Return a refusal of the importer with this command's flag in place of its option."""
    text = re.sub(r"\b([Nn]ame) the right arch=", r"\1 the right backbone with --arch", text)
    return text.replace("use arch=", "use --arch ")


def open_initial(source: str, backbone: str, plugins: Path | None = None) -> Checkpoint:
    """Return the weights that ``plan_initial`` planned, by the source of its checkpoint.

    Raises:
        UserError: As ``plan_initial``.
        PreflightError: As ``plan_initial``.
    """
    scheme, _, rest = source.partition(":")
    if scheme == OBJECTIVE:
        return whole_checkpoint(Path(rest), backbone)
    return open_encoder(source, backbone, plugins)


def whole_checkpoint(path: Path, backbone: str) -> Checkpoint:
    """Return a file that is a whole objective as a checkpoint of a run.

    Raises:
        PreflightError: The file does not exist, or its record is damaged.
    """
    if not path.is_file():
        raise PreflightError(f"{_FLAG} {path}: the file does not exist; check the path.")
    mean, std = norm_of(path)
    return Checkpoint(
        backbone=backbone,
        path=path,
        sha256=sha256_file(path),
        format=OBJECTIVE,
        mean=mean,
        std=std,
        source=f"{OBJECTIVE}:{path.absolute()}",
    )


def open_encoder(source: str, backbone: str, plugins: Path | None = None) -> Checkpoint:
    """Return the weights of an encoder.

    Args:
        source: See ``open_checkpoint``.
        backbone: That the recipe trains.
        plugins: Folder of further backbones.

    Raises:
        UserError: They are of another backbone, or fresh.
        PreflightError: They cannot be read, or fit no backbone.
    """
    checkpoint = open_checkpoint(source, plugins, arch=backbone)
    if checkpoint.path is None:
        raise UserError(f"{_FLAG} {source} names fresh weights; leave {_FLAG} out for those.")
    if checkpoint.backbone != backbone:
        raise UserError(
            f"{_FLAG} {source} holds {checkpoint.backbone}, and this run trains {backbone}; name "
            f"other weights, or train {checkpoint.backbone} with --arch."
        )
    return checkpoint


def load_initial(
    objective: Objective, method: str, spec: BackboneSpec, checkpoint: Checkpoint, img_size: int
) -> str:
    """Fill an objective with its first weights.

    Args:
        objective: Freshly built.
        method: Its method's name.
        spec: Of its backbone.
        checkpoint: As ``plan_initial`` returns it.
        img_size: Side in pixels that its backbone was built for.

    Returns:
        What was loaded and what is fresh, as one line.

    Raises:
        UserError: The file is of another method.
        PreflightError: It cannot be read or does not fit.
    """
    path = checkpoint.path
    assert path is not None
    if checkpoint.format == OBJECTIVE:
        if record_path(path).is_file():
            return _fill_whole(objective, method, path)
        objective.load_official(read_foreign(path))
        return f"all {len(objective.state_dict())} tensors from {path.name} (official layout)"
    options = BuildOptions(img_size=img_size)
    filled, coverage = build_backbone(spec, checkpoint, options, seed=0)
    left = _fill_encoders(objective, filled, format_of(checkpoint, spec).positions, path)
    return f"{coverage.sentence()} {_fresh_parts(objective, left)}"


def _file_of(source: str) -> Path | None:
    """Return the file that may hold a whole objective, None for other sources."""
    path = path_of(source)
    scheme, colon, rest = source.partition(":")
    if not path.exists() and colon and scheme in _SCHEMES:
        bare = path_of(rest)
        return bare if scheme == "ckpt" and bare.is_file() and is_objective(bare) else None
    if "?" in source and not path.exists():
        raise UserError(f"{_FLAG} {source}: write ckpt:{source} for a file with options.")
    if not path.exists():
        raise PreflightError(f"{_FLAG} {source}: the file does not exist; check the path.")
    return path


def _whole(path: Path, config: PretrainConfig) -> Checkpoint:
    return whole_checkpoint(path, config.backbone)


def _without_numbers(method: Method, config: PretrainConfig, plugins: Path | None) -> Objective:
    spec = get_spec(config.backbone, plugins)
    method.check(spec, config)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return method.build(spec, config)


def _is_official(objective: Objective, path: Path) -> bool:
    """Tell whether a file is a whole objective in its method's official layout, by shapes."""
    if record_path(path).is_file():
        return False
    try:
        objective.load_official(_shapes_of(read_foreign(path)))
    except UserError:
        return False
    return True


def _shapes_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors of a file's content, nested as they are, without their numbers."""
    shapes: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            shapes[name] = _shapes_of(value)
        elif isinstance(value, Tensor):
            shapes[name] = torch.empty(value.shape, dtype=value.dtype, device="meta")
    return shapes


def _fill_whole(objective: Objective, method: str, path: Path) -> str:
    """Fill an objective from the file of an earlier run; see ``load_initial``."""
    if not is_objective(path):
        raise UserError(f"{path} holds a backbone, not a whole objective.")
    state, record = read_objective(path)
    made_by = record.made_by
    if made_by.get("method") != method:
        raise UserError(
            f"{path} was made by {made_by.get('method')}, and this run's method is {method}; to "
            "begin with its encoder, name weights.safetensors next to it."
        )
    wanted = objective.state_dict()
    patterns = objective.may_start_fresh()
    fresh = [name for name in wanted if name not in state]
    unexplained = [n for n in fresh if not any(fnmatchcase(n, p) for p in patterns)]
    spare = [name for name in state if name not in wanted]
    misfits = [n for n, v in state.items() if n in wanted and v.shape != wanted[n].shape]
    if unexplained or spare or misfits:
        first = (unexplained + spare + misfits)[0]
        raise PreflightError(
            f"{path} does not fit this recipe ({len(unexplained)} tensors are missing, "
            f"{len(spare)} left over, {len(misfits)} of another shape; first {first}); take the "
            f"recipe and backbone that made it ({made_by.get('protocol')}, "
            f"{made_by.get('backbone')}), or name weights.safetensors next to it to begin with its "
            "encoder."
        )
    if not any(value.is_meta for value in wanted.values()):
        objective.load_state_dict(state, strict=False)
    return f"{len(state)} of {len(wanted)} tensors from {path.name}, {len(fresh)} fresh"


def _check_encoder(
    objective: Objective, checkpoint: Checkpoint, config: PretrainConfig, plugins: Path | None
) -> str:
    """Return what an encoder's weights fill, by shapes, as one sentence."""
    assert checkpoint.path is not None
    options = BuildOptions(img_size=config.data.img_size)
    filled = as_loaded(checkpoint, options, plugins)
    if any(_shared_names(encoder) for encoder in objective.encoders()):
        # Only their values tell whether tables of several blocks are one.
        filled, _ = build_backbone(spec_for(checkpoint, plugins), checkpoint, options, seed=0)
    rule = format_of(checkpoint, spec_for(checkpoint, plugins)).positions
    left = _fill_encoders(objective, filled, rule, checkpoint.path)
    return f"encoder from {checkpoint.source}. {_fresh_parts(objective, left)}"


def _fill_encoders(
    objective: Objective, filled: Backbone, rule: PositionRule, path: Path
) -> list[str]:
    """Fill the encoders of an objective from a backbone that holds a file's weights.

    A table of positions is resized once, to the images of the recipe: it is trained from there, by
    the rule of the objective's method.

    Args:
        objective: To be filled; on the meta device only shapes are compared.
        filled: The backbone as the file's makers use it.
        rule: How the file's method resizes its table.
        path: Of the file.

    Returns:
        Names of the encoder's tensors that stay fresh.

    Raises:
        PreflightError: Its tensors are not the encoder's.
    """
    left: list[str] = []
    for encoder in objective.encoders():
        wanted = encoder.state_dict()
        on_meta = any(value.is_meta for value in wanted.values())
        own = filled.state_dict()
        own = {k: v.to("meta") for k, v in own.items()} if on_meta else own
        _refuse_unshared(encoder, filled, path)
        state, _ = resize(own, encoder, rule)
        left = [name for name in wanted if name not in state]
        spare = [name for name in state if name not in wanted]
        wrong = [n for n, v in state.items() if n in wanted and v.shape != wanted[n].shape]
        # Behind the mean over patches a norm sees other values than in front of it.
        behind = all("fc_norm." in name for name in spare) and all("norm." in n for n in left)
        if wrong or not behind or bool(spare) != bool(left):
            first = (left + spare + wrong)[0]
            raise PreflightError(
                f"{path} does not fit the encoder ({len(left)} tensors are missing, {len(spare)} "
                f"left over, {len(wrong)} of another shape; first {first}); name other weights."
            )
        kept = {name: tensor for name, tensor in state.items() if name in wanted}
        encoder.load_state_dict(kept, strict=False)
    return left


def _shared_names(module: nn.Module) -> list[list[str]]:
    """Return the names of each parameter that a module has under several."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _refuse_unshared(encoder: Backbone, filled: Backbone, path: Path) -> None:
    """Raise where one parameter of the encoder would have to take several tensors of a file."""
    state = filled.state_dict()
    for first, *others in _shared_names(encoder):
        if state[first].is_meta:
            continue
        if any(not torch.equal(state[first], state[name]) for name in others):
            raise PreflightError(
                f"{path} holds {len(others) + 1} different tensors where this recipe has one for "
                f"all blocks ({first}); set model.share_bias_tables=false."
            )


def _fresh_parts(objective: Objective, left: list[str]) -> str:
    """Return which parts of an objective the encoder's weights leave fresh, as one sentence."""
    prefixes = [
        f"{name}."
        for name, module in objective.named_modules()
        if any(module is encoder for encoder in objective.encoders())
    ]
    parts = {
        _part_of(name, prefixes)
        for name in objective.state_dict()
        if not name.startswith(tuple(prefixes))
    }
    own = sorted(parts) + [f"{name} (the file's norm is behind its pooling)" for name in left]
    return f"Fresh: {', '.join(own)}." if own else "Nothing is fresh."


def _part_of(name: str, encoders: list[str]) -> str:
    """Return the module or parameter next to the encoders that a tensor belongs to."""
    words = name.split(".")
    for count in range(1, len(words)):
        part = ".".join(words[:count])
        if not any(prefix.startswith(f"{part}.") for prefix in encoders):
            return part
    return name
