"""Reads other projects' files without running anything in them; the only caller of torch.load."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbones.base.errors import PreflightError
from backbones.weights.files import read_safetensors
from backbones.weights.folders import INDEX, shards_of
from backbones.weights.pickled import Skipped, as_tensor, read_pickle, state_of

# What a file begins with, and what to say of those that are not read.
_MAGIC = {
    b"\x89HDF": "an HDF5 file (Keras); save its weights as safetensors",
    b"GGUF": "a GGUF file of quantised weights; use the original checkpoint",
    b"\x08\x07\x12": "an ONNX graph; use the checkpoint that it was exported from",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\xfd7zXZ": "an xz archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"version https://git-lfs": "a Git LFS pointer, not the file; run git lfs pull",
}

_LONGEST_BEGIN = 512  # bytes; a tar archive's mark stands in them


def read_foreign(path: Path) -> dict[str, Any]:
    """Return the content of a weights file, tensors on the CPU, whatever its name ends with.

    ``torch.save`` files, safetensors and their shard index, numpy's ``.npz`` and detectron2's
    ``.pkl`` are read.

    Raises:
        PreflightError: There is no such file, it is truncated or of another kind, or it holds an
            object that unpickling would have to run code for.
    """
    if path.is_dir() and (path / ".metadata").is_file():
        raise PreflightError(
            f"{path} is a folder of torch.distributed.checkpoint; turn it into one file with "
            "torch.distributed.checkpoint.format_utils.dcp_to_torch_save(FOLDER, FILE)."
        )
    if not path.is_file():
        raise PreflightError(f"{path}: there is no such weights file.")
    content = _reader_of(path)(path)
    if isinstance(content, Skipped):
        content = state_of(content) or content
    if not isinstance(content, dict):
        kind = content.kind if isinstance(content, Skipped) else type(content).__name__
        raise PreflightError(f"{path} holds a {kind}, not a dictionary of weights.")
    return content


def _reader_of(path: Path) -> Callable[[Path], Any]:
    """Return the function that reads a file of this kind.

    Raises:
        PreflightError: Files of its kind are not read.
    """
    if path.name.endswith(INDEX):
        return _read_shards
    try:
        with path.open("rb") as file:
            begin = file.read(_LONGEST_BEGIN)
    except OSError as error:
        raise PreflightError(f"{path} cannot be read: {error.strerror}.") from error
    if begin[257:262] == b"ustar":
        raise PreflightError(f"{path} is a tar archive; unpack it first.")
    for magic, what in _MAGIC.items():
        if begin.startswith(magic):
            raise PreflightError(f"{path} is {what}.")
    # Its header's length stands in front of the header, which is JSON.
    length = int.from_bytes(begin[:8], "little")
    tensors = begin[8:9] == b"{" and length < path.stat().st_size
    if tensors or (path.suffix == ".safetensors" and begin[:1] not in (b"P", b"\x80")):
        return read_safetensors
    if begin.startswith(b"PK"):
        return _reader_of_archive(path)
    return read_pickle


def _reader_of_archive(path: Path) -> Callable[[Path], Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return read_pickle  # torch says what is wrong with it
    if names and all(name.endswith(".npy") for name in names):
        return _read_arrays
    if any(name.endswith(("/constants.pkl", "/code/")) or "/code/" in name for name in names):
        raise PreflightError(
            f"{path} is a TorchScript archive, which holds code; save its weights once with "
            "torch.save(torch.jit.load(FILE).state_dict(), OUT) and use OUT."
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise PreflightError(f"{path} is a zip archive without weights; unpack it first.")
    return read_pickle


def _read_arrays(path: Path) -> dict[str, torch.Tensor]:
    """Return the numeric arrays of an ``.npz`` by name, as tensors of the same shapes."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {
                name: as_tensor(arrays[name])
                for name in arrays.files
                if arrays[name].dtype.kind in "fiub"
            }
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise PreflightError(
            f"{path} is truncated or holds other things than arrays ({error}); copy it again."
        ) from error


def _read_shards(index: Path) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for shard in shards_of(index):
        content |= read_foreign(shard)
    return content
