"""The ``Checkpoint`` record: weights and what made them."""

import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from backbones.base.errors import PreflightError
from backbones.base.files import sha256_file, write_json_atomically

FRESH = "random"

# Facts of one use of the weights, not of the weights: a record that moves must stay true.
_NOT_RECORDED = ("path", "source")


@dataclass(frozen=True)
class Checkpoint:
    """Weights of a backbone, with their provenance.

    Attributes:
        backbone: A zoo name, or ``timm:NAME``.
        path: The weights file; None means fresh weights, drawn from the run's seed.
        sha256: Of the file's bytes; ``FRESH`` where there is no file. Identity of a run builds on
            this, never on a name.
        format: Key layout: backbench, mae, lomar, esvit, dino, mocov3, beit, simmim, swin or timm.
        branch: "teacher" or "student" where it is not the one that the format takes by default.
        method: What made the weights: mae, supervised, …; ``FRESH`` for none.
        data: What they were made from.
        epochs: Passes over that data.
        img_size: Side in pixels of the images they were made with.
        recipe: Name of the pretraining recipe.
        code_version: Version of the code that wrote them.
        licence: Under which the weights may be used.
        source: What the user typed to name them.
    """

    backbone: str
    path: Path | None
    sha256: str
    format: str = "backbench"
    branch: str = ""
    method: str = ""
    data: str = ""
    epochs: float | None = None
    img_size: int | None = None
    recipe: str = ""
    code_version: str = ""
    licence: str = ""
    source: str = ""


def record_path(weights: Path) -> Path:
    """Return where the record of a weights file lies: beside it, with the suffix ``.json``."""
    return weights.with_suffix(".json")


def write_record(checkpoint: Checkpoint) -> None:
    """Write the record beside its weights file, atomically.

    Raises:
        PreflightError: The folder cannot be written.
        ValueError: The checkpoint has no file.
    """
    if checkpoint.path is None:
        raise ValueError("fresh weights have no file to write a record beside")
    content = {k: v for k, v in asdict(checkpoint).items() if k not in _NOT_RECORDED}
    write_json_atomically(record_path(checkpoint.path), content)


def read_record(weights: Path) -> Checkpoint:
    """Read the record beside a weights file and check the weights against it.

    Args:
        weights: The safetensors file.

    Raises:
        PreflightError: There is no record, it is torn or edited beyond reading, or the weights are
            not the ones that it describes.
    """
    path = record_path(weights)
    checkpoint = replace(_parse(path, _read_json(path)), path=weights)
    found = sha256_file(weights)
    if found != checkpoint.sha256:
        raise PreflightError(
            f"{weights} is not what {path.name} beside it describes (SHA-256 {found[:12]}…, "
            f"recorded {checkpoint.sha256[:12]}…): it is torn or was edited; copy both files again."
        )
    return checkpoint


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise PreflightError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise PreflightError(f"{path} is torn or not JSON ({error}); copy it again.") from error


def _parse(path: Path, content: Any) -> Checkpoint:
    recorded = [field for field in fields(Checkpoint) if field.name not in _NOT_RECORDED]
    needed = {field.name for field in recorded if field.default is MISSING}
    known = {field.name for field in recorded}
    if not isinstance(content, dict) or not needed <= set(content) <= known:
        raise PreflightError(
            f"{path} is not a checkpoint record: it must hold {', '.join(sorted(needed))} and may "
            f"hold {', '.join(sorted(known - needed))}, nothing else."
        )
    for name, value in content.items():
        if not isinstance(value, _TYPES.get(name, str)) or isinstance(value, bool):
            raise PreflightError(f"{path}: {name} has the value {value!r}, which cannot be.")
    return Checkpoint(path=None, **content)


_TYPES = {"epochs": (int, float, type(None)), "img_size": (int, type(None))}
