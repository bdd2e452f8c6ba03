"""Weights of a whole objective, heads included: to begin another run with, or to export."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct
from safetensors.torch import save
from torch import Tensor

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import atomic_file, sha256_file, write_atomically
from backbones.base.json_files import JsonFormat, UnreadableFileError, parse_json
from backbones.base.registry import lookup
from backbones.base.sections import as_plain, restore
from backbones.catalog import get_spec
from backbones.checkpoint import read_record, record_path
from backbones.features import Backbone
from backbones.spec import BuildOptions
from backbones.timm_networks.backbone import NET, TimmBackbone
from backbones.timm_networks.families import SwinBackbone
from backbones.training.objective import Objective
from backbones.vit.network import VisionTransformer
from backbones.weights.files import read_safetensors
from backbones.weights.layout import Rgb
from backbones.weights.loading import build_backbone
from pretrain.config import PretrainConfig
from pretrain.method import get_method

# The format of a checkpoint that is a whole objective, heads included.
OBJECTIVE = "objective"


class ObjectiveRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the JSON file next to an objective's weights.

    Attributes:
        sha256: SHA-256 of the weights file.
        made_by: Plain facts; "method" and "backbone" among them.
        config: The recipe as plain values.
        mean: Per-channel mean of the images, None for the backbone's own.
        std: Per-channel standard deviation of the images, None for the backbone's own.
    """

    sha256: str
    made_by: dict[str, str]
    config: dict[str, Any]
    mean: Rgb | None = None
    std: Rgb | None = None


_FORMAT = JsonFormat(ObjectiveRecord, "record of an objective")


def save_objective(
    objective: Objective,
    path: Path,
    config: PretrainConfig,
    made_by: Mapping[str, str],
    norm: tuple[Rgb | None, Rgb | None] = (None, None),
) -> None:
    """Write the objective's state, and next to it what made it and its checksum.

    Args:
        objective: On any device.
        path: Suffix ``.safetensors``; the record takes ``.json``.
        config: The recipe, with which the objective can be built again.
        made_by: Plain facts; "method" and "backbone" among them.
        norm: Mean and standard deviation of the images, None for the backbone's own.

    Raises:
        PreflightError: The disk is full, or the folder cannot be written.
    """
    state = {k: v.detach().cpu().clone().contiguous() for k, v in objective.state_dict().items()}
    content = save(state)

    record = path.with_suffix(".json")
    record.unlink(missing_ok=True)
    write_atomically(path, content)
    facts = ObjectiveRecord(sha256_file(path), dict(made_by), as_plain(config), *norm)
    _FORMAT.write(record, facts)


def is_objective(path: Path) -> bool:
    """Tell whether a weights file is a whole objective, by its record."""
    record = path.with_suffix(".json")
    if not record.is_file():
        return False
    try:
        content = parse_json(record.read_bytes())
    except (OSError, ValueError) as error:
        raise UnreadableFileError(record, "record of weights", str(error)) from error
    return isinstance(content, dict) and "made_by" in content


def norm_of(path: Path) -> tuple[Rgb | None, Rgb | None]:
    """Return mean and standard deviation of the images that an objective was trained on.

    Args:
        path: Of ``save_objective``, or a file in an official layout, whose images are the
            backbone's own: (None, None).

    Raises:
        UnreadableFileError: The record is damaged.
    """
    if not is_objective(path):
        return None, None
    record = _FORMAT.read(path.with_suffix(".json"))
    return record.mean, record.std


def read_objective(path: Path) -> tuple[dict[str, Tensor], ObjectiveRecord]:
    """Return what ``save_objective`` wrote: the state, and the record.

    Raises:
        PreflightError: A file is absent, torn, or not the one that the record describes.
    """
    record = _FORMAT.read(path.with_suffix(".json"))
    if not path.is_file() or record.sha256 != sha256_file(path):
        raise PreflightError(
            f"{path} is absent, truncated or not what its record says; copy it again."
        )
    return read_safetensors(path), record


def rebuild_objective(path: Path, plugins: Path | None = None) -> tuple[Objective, str]:
    """Return the objective that ``save_objective`` wrote, and its method's name.

    Raises:
        PreflightError: A file cannot be read, or its recipe is not one of this code's.
    """
    state, record = read_objective(path)
    made_by = record.made_by
    method = get_method(made_by["method"])
    try:
        empty = PretrainConfig(protocol="", method="", backbone="", model=method.config_type())
        config = restore(empty, record.config)
    except (TypeError, ValueError) as error:
        raise PreflightError(f"{path} was written by another version of {method.name}.") from error
    with torch.random.fork_rng(devices=[]):
        objective = method.build(get_spec(made_by["backbone"], plugins), config)
    objective.load_state_dict(state)
    return objective, method.name


State = dict[str, Tensor]


def export(source: Path, layout: str, out: Path, plugins: Path | None = None) -> str:
    """Write weights as the official code of a method saves them.

    Args:
        source: ``weights.safetensors`` (the backbone alone) or ``objective.safetensors`` (heads
            and all) of a pretraining run.
        layout: "mae", "lomar", "dino", "esvit", "mocov3", "simmim", "swin" or "timm".
        out: The file to write, by ``torch.save``.
        plugins: Folder of further backbones.

    Returns:
        What was written, as one line.

    Raises:
        UserError: Layout and weights do not go together, or ``out`` holds weights of a run.
        PreflightError: A file cannot be read or written.
    """
    if out.exists() and record_path(out).exists():
        raise UserError(
            f"--to {out} holds weights of a run, which would be lost; name another file."
        )
    content = (
        _whole(source, layout, plugins)
        if is_objective(source)
        else _backbone(source, layout, plugins)
    )
    with atomic_file(out) as file:
        torch.save(content, file)
    return f"{out}: {_count(content)} tensors in the layout of {layout}."


def to_layout(backbone: Backbone, layout: str) -> dict[str, Any]:
    """Return a backbone's weights as the content of an official file.

    Raises:
        UserError: There is no such layout, or it has no names for this network.
    """
    return lookup("layout", layout, LAYOUTS)(backbone)


def _whole(source: Path, layout: str, plugins: Path | None) -> dict[str, Any]:
    objective, method = rebuild_objective(source, plugins)
    if method != layout:
        raise UserError(
            f"{source} holds an objective of {method}, which can only be written in the layout of "
            f"{method}; for the backbone in another, export weights.safetensors beside it."
        )
    state = objective.official_state()
    bare = all(isinstance(value, Tensor) for value in state.values())
    return {"model": state} if bare else state


def _backbone(source: Path, layout: str, plugins: Path | None) -> dict[str, Any]:
    if not source.is_file():
        raise PreflightError(f"There is no file {source}.")
    checkpoint = read_record(source)
    spec = get_spec(checkpoint.backbone, plugins)
    options = BuildOptions(img_size=checkpoint.img_size or BuildOptions().img_size)
    backbone, _ = build_backbone(spec, checkpoint, options, seed=0)
    return to_layout(backbone, layout)


def _vit(backbone: Backbone) -> State:
    if not isinstance(backbone, VisionTransformer):
        raise UserError(f"This layout is for plain ViTs, not for {type(backbone).__name__}.")
    return dict(backbone.state_dict())


def _swin(backbone: Backbone) -> State:
    """Return Microsoft's names: patch merging at the end of a stage, and the index buffers."""
    if not isinstance(backbone, SwinBackbone):
        raise UserError(f"This layout is for Swin, not for {type(backbone).__name__}.")
    indices = {k: v for k, v in backbone.named_buffers() if k.endswith("relative_position_index")}
    state = {**backbone.state_dict(), **indices}
    return {_unshift(name.removeprefix(NET)): tensor for name, tensor in state.items()}


def _unshift(name: str) -> str:
    return re.sub(
        r"^layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name
    )


def _timm(backbone: Backbone) -> State:
    prefix = NET if isinstance(backbone, TimmBackbone) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in backbone.state_dict().items()}


def _prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


LAYOUTS: dict[str, Callable[[Backbone], dict[str, Any]]] = {
    "mae": lambda backbone: {"model": _vit(backbone)},
    "lomar": lambda backbone: {"model": _vit(backbone)},
    "dino": _vit,
    "esvit": _swin,
    "mocov3": lambda backbone: {"state_dict": _prefixed(_vit(backbone), "module.base_encoder.")},
    "simmim": lambda backbone: {"model": _prefixed(_swin(backbone), "encoder.")},
    "swin": lambda backbone: {"model": _swin(backbone)},
    "timm": _timm,
}


def _count(content: Mapping[str, Any]) -> int:
    return sum(1 if isinstance(v, Tensor) else _count(v) for v in content.values())
