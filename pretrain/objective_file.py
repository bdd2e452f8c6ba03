"""Weights of a whole objective, heads included: to begin another run with, or to export."""

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save
from torch import Tensor

from backbones.catalog import get_spec
from backbones.errors import PreflightError, UserError
from backbones.files import sha256_file, write_atomically, write_json_atomically
from backbones.foreign import read_foreign
from backbones.weights import read_safetensors
from pretrain.config import PretrainConfig, as_plain, from_plain
from pretrain.method import Objective, get_method


def save_objective(
    objective: Objective, path: Path, config: PretrainConfig, made_by: Mapping[str, str]
) -> None:
    """Write the objective's state, and beside it what made it and its checksum.

    Args:
        objective: On any device.
        path: Suffix ``.safetensors``; the record takes ``.json``.
        config: The recipe, with which the objective can be built again.
        made_by: Plain facts; "method" and "backbone" among them.

    Raises:
        PreflightError: The disk is full, or the folder cannot be written.
    """
    state = {k: v.detach().cpu().clone().contiguous() for k, v in objective.state_dict().items()}
    content = save(state)

    def write(file: BinaryIO) -> None:
        file.write(content)

    record = path.with_suffix(".json")
    record.unlink(missing_ok=True)
    write_atomically(path, write)
    facts = {"sha256": sha256_file(path), "made_by": dict(made_by), "config": as_plain(config)}
    write_json_atomically(record, facts)


def is_objective(path: Path) -> bool:
    """Tell whether a weights file is a whole objective, by its record."""
    record = path.with_suffix(".json")
    return record.is_file() and "made_by" in _read_json(record)


def read_objective(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what ``save_objective`` wrote: the state, and the record.

    Raises:
        PreflightError: A file is absent, torn, or not the one that the record describes.
    """
    record = _read_json(path.with_suffix(".json"))
    if not path.is_file() or record.get("sha256") != sha256_file(path):
        raise PreflightError(f"{path} is absent, torn or not what its record says; copy it again.")
    return read_safetensors(path), record


def rebuild_objective(path: Path, plugins: Path | None = None) -> tuple[Objective, str]:
    """Return the objective that ``save_objective`` wrote, and its method's name.

    Raises:
        PreflightError: A file cannot be read, or its recipe is not one of this code's.
    """
    state, record = read_objective(path)
    made_by = record["made_by"]
    method = get_method(made_by["method"])
    try:
        config = from_plain(record["config"], method.config_type)
    except TypeError as error:
        raise PreflightError(f"{path} was written by another version of {method.name}.") from error
    with torch.random.fork_rng(devices=[]):
        objective = method.build(get_spec(made_by["backbone"], plugins), config)
    objective.load_state_dict(state)
    return objective, method.name


def load_initial(objective: Objective, method: str, path: Path) -> str:
    """Fill an objective from an earlier run's file, or from an official one.

    Args:
        objective: Freshly built.
        method: Its method's name.
        path: ``objective.safetensors`` of an earlier run, or an official pretraining file.

    Returns:
        What was loaded, as one line.

    Raises:
        UserError: The file is of another method.
        PreflightError: It cannot be read or does not fit.
    """
    if not path.is_file():
        raise PreflightError(f"--init-from {path}: there is no such file.")
    if not path.with_suffix(".json").is_file():
        objective.load_official(read_foreign(path))
        return f"all {len(objective.state_dict())} tensors from {path.name} (official layout)"
    if not is_objective(path):
        raise UserError(
            f"{path} holds no whole objective but a backbone alone; take objective.safetensors "
            "beside it, or an official full checkpoint."
        )
    state, record = read_objective(path)
    made_by = record["made_by"]
    if made_by.get("method") != method:
        raise UserError(
            f"{path} was made by {made_by.get('method')}, and this run's method is {method}."
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
            f"{made_by.get('backbone')})."
        )
    objective.load_state_dict(state, strict=False)
    return f"{len(state)} of {len(wanted)} tensors from {path.name}, {len(fresh)} fresh"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PreflightError(f"{path} is absent or torn; copy it beside its weights.") from error
    if not isinstance(content, dict):
        raise PreflightError(f"{path} is no record of weights.")
    return content
