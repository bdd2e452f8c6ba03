"""Reads other projects' files without running anything in them; the only caller of torch.load."""

import argparse
import pathlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbones.base.errors import PreflightError
from backbones.weights.files import read_safetensors

# What the official trainers pickle beside tensors: their arguments, paths
# among those when submitit launched them, and learning rates from numpy schedules. None of these
# constructors runs code. numpy 1 filed the scalar constructor under another name than numpy 2.
_SCALAR: Any = np.float64(0).__reduce__()[0]
_ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]


def read_foreign(path: Path) -> dict[str, Any]:
    """Return the content of a ``.safetensors`` or ``torch.save`` file, tensors on the CPU.

    Raises:
        PreflightError: There is no such file, it is truncated or of another kind, or it holds an
            object that unpickling would have to run code for.
    """
    if not path.is_file():
        raise PreflightError(f"{path}: there is no such weights file.")
    content = read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if not isinstance(content, dict):
        raise PreflightError(
            f"{path} holds a {type(content).__name__}, not a dictionary of weights."
        )
    return content


def _read_pickle(path: Path) -> Any:
    try:
        path.open("rb").close()
    except OSError as error:
        raise PreflightError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may fail in any way inside the unpickler
        raise PreflightError(_why_not(path, str(error))) from error


def _why_not(path: Path, message: str) -> str:
    """Turn torch's page of advice into one sentence."""
    named = re.search(r"(?:GLOBAL|class|function) ([\w.]+\.[\w.]+)", message)
    if named and named[1].endswith("CfgNode"):
        return (
            f"{path} carries a pickled {named[1]} (SimMIM keeps its settings so), which no safe "
            "reader takes: where you trust the file, run torch.save({'model': torch.load(FILE, "
            "weights_only=False)['model']}, OUT) once and load OUT."
        )
    if named:
        return (
            f"{path} holds a pickled {named[1]}, which could run code when read, so it is refused: "
            "where you trust the file, save its tensors alone (torch.save or safetensors) and load "
            "that."
        )
    return f"{path} is truncated or no weights file; download or copy it again."
