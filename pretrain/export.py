"""Our weights in the layouts of the official projects, for others' code to read."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from backbones.catalog import get_spec
from backbones.checkpoint import read_record, record_path
from backbones.errors import PreflightError, UserError
from backbones.features import Backbone
from backbones.files import write_atomically
from backbones.loading import build_backbone
from backbones.registry import lookup
from backbones.spec import BuildOptions
from backbones.timm_backbone import NET, TimmBackbone
from backbones.timm_families import SwinBackbone
from backbones.vit import VisionTransformer
from pretrain.objective_file import is_objective, rebuild_objective

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

    def write(file: BinaryIO) -> None:
        torch.save(content, file)

    write_atomically(out, write)
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
