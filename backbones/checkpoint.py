"""The ``Checkpoint`` record: weights and what made them."""

from pathlib import Path
from typing import Any

from msgspec import Struct, defstruct
from msgspec.structs import asdict, fields

from backbones.base.errors import PreflightError
from backbones.base.files import sha256_file
from backbones.base.json_files import JsonFormat

FRESH = "random"
# Key layout of the files that this program writes.
OWN_FORMAT = "backbench"

Rgb = tuple[float, float, float]


class Checkpoint(Struct, frozen=True):
    """Weights of a backbone, with their provenance.

    Attributes:
        backbone: A zoo name, or ``timm:NAME``.
        path: The weights file; None means fresh weights, drawn from the run's seed.
        sha256: SHA-256 of the file's bytes; ``FRESH`` where there is no file. Identity of a run
            builds on this, never on a name.
        format: Key layout: backbench, mae, lomar, esvit, dino, mocov3, beit, simmim, swin or timm.
        branch: "ema", "raw", "teacher" or "student" where it is not the one that the format takes
            by default.
        key: Dictionaries around the weights in the file, joined by dots; empty searches.
        prefix: What stands before the network's names in there; empty searches.
        mean: Per-channel mean of the images that the weights were trained on, RGB on the scale 0 to
            1; None means the backbone's own.
        std: Per-channel standard deviation; None means the backbone's own.
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
    format: str = OWN_FORMAT
    branch: str = ""
    key: str = ""
    prefix: str = ""
    mean: Rgb | None = None
    std: Rgb | None = None
    method: str = ""
    data: str = ""
    epochs: int | float | None = None
    img_size: int | None = None
    recipe: str = ""
    code_version: str = ""
    licence: str = ""
    source: str = ""

    @property
    def layout(self) -> str:
        """Return how the file is read and used, as it enters a run's identity.

        The format, and what differs from the format's and the backbone's own: a place in the file
        that the user named, and a normalisation other than the backbone's.
        """
        parts = [self.format]
        parts += [f"key={self.key}"] if self.key else []
        parts += [f"prefix={self.prefix}"] if self.prefix else []
        for name, values in (("mean", self.mean), ("std", self.std)):
            parts += [f"{name}={','.join(f'{value:g}' for value in values)}"] if values else []
        return "&".join(parts)


# Facts of one use of the weights are not recorded: a record that moves must stay true.
_RECORDED = [one for one in fields(Checkpoint) if one.name not in ("path", "source")]
_Record: Any = defstruct(
    "CheckpointRecord",
    [(one.name, one.type, *([] if one.required else [one.default])) for one in _RECORDED],
    forbid_unknown_fields=True,
)
_FORMAT = JsonFormat(_Record, "checkpoint record")


def record_path(weights: Path) -> Path:
    """Return where the record of a weights file is: next to it, with the suffix ``.json``."""
    return weights.with_suffix(".json")


def write_record(checkpoint: Checkpoint) -> None:
    """Write the record next to its weights file, atomically.

    Raises:
        PreflightError: The folder cannot be written.
        ValueError: The checkpoint has no file.
    """
    if checkpoint.path is None:
        raise ValueError("fresh weights have no file to write a record next to")
    facts = {one.name: getattr(checkpoint, one.name) for one in _RECORDED}
    _FORMAT.write(record_path(checkpoint.path), _Record(**facts))


def read_record(weights: Path) -> Checkpoint:
    """Read the record next to a weights file and check the weights against it.

    Args:
        weights: The safetensors file.

    Raises:
        PreflightError: There is no record, it is damaged or was edited, or the weights are not the
            ones that it describes.
    """
    path = record_path(weights)
    checkpoint = Checkpoint(**asdict(_FORMAT.read(path)), path=weights)
    found = sha256_file(weights)
    if found != checkpoint.sha256:
        raise PreflightError(
            f"{weights} is not the file that {path.name} next to it describes (SHA-256 "
            f"{found[:12]}…, recorded {checkpoint.sha256[:12]}…): it was truncated, damaged or "
            "edited; copy both files again."
        )
    return checkpoint
