"""Weights of a whole objective, heads included: to begin another run with, or to export."""

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from safetensors.torch import save
from torch import Tensor

from backbones.errors import PreflightError, UserError
from backbones.files import sha256_file, write_atomically, write_json_atomically
from backbones.foreign import read_foreign
from backbones.weights import read_safetensors
from pretrain.method import Objective


def save_objective(objective: Objective, path: Path, made_by: Mapping[str, str]) -> None:
    """Write the objective's state, and beside it what made it and its checksum.

    Args:
        objective: On any device.
        path: Suffix ``.safetensors``; the record takes ``.json``.
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
    write_json_atomically(record, {"sha256": sha256_file(path), "made_by": dict(made_by)})


def read_objective(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return what ``save_objective`` wrote: the state, and what made it.

    Raises:
        PreflightError: A file is absent, torn, or not the one that the record describes.
    """
    try:
        record = json.loads(path.with_suffix(".json").read_text())
        checksum, made_by = record["sha256"], dict(record["made_by"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreflightError(
            f"{path} has no readable record {path.stem}.json beside it; copy both files."
        ) from error
    if not path.is_file() or sha256_file(path) != checksum:
        raise PreflightError(f"{path} is absent or torn; copy it again.")
    return read_safetensors(path), made_by


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
    state, made_by = read_objective(path)
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
