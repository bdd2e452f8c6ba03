"""The ``Checkpoint`` record: weights and what made them."""

import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, defstruct
from msgspec.structs import asdict, fields

from backbones.base.errors import PreflightError
from backbones.base.files import canonical_json, sha256_file
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
        positions: How the weights' table of positions was resized in training, one of
            ``positions_rule.RULES``; empty means the rule of the method and the backbone.
        settings: What makes the network compute otherwise than its format or backbone says, as
            options: ``hidden_act=relu&layer_norm_eps=0.001``.
        origin: Of own files that hold weights of another project: the format that they came in,
            whose epsilons, activation and position rule they keep.
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
    positions: str = ""
    settings: str = ""
    origin: str = ""
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
        that the user named, a normalisation other than the backbone's, a position rule other than
        the method's, and settings other than the format's.
        """
        parts = [self.format]
        parts += [f"key={self.key}"] if self.key else []
        parts += [f"prefix={self.prefix}"] if self.prefix else []
        for name, values in (("mean", self.mean), ("std", self.std)):
            parts += [f"{name}={','.join(f'{value:g}' for value in values)}"] if values else []
        parts += [f"positions={self.positions}"] if self.positions else []
        parts += [self.settings] if self.settings else []
        parts += [f"origin={self.origin}"] if self.origin else []
        return "&".join(parts)


# Facts of one use of the weights are not recorded: a record that moves must stay true.
_RECORDED = [one for one in fields(Checkpoint) if one.name not in ("path", "source")]
_Record: Any = defstruct(
    "CheckpointRecord",
    [(one.name, one.type, *([] if one.required else [one.default])) for one in _RECORDED],
    forbid_unknown_fields=True,
)
_FORMAT = JsonFormat(_Record, "checkpoint record")


# What decides how own weights are used. It stands in the header of their file, too, so that the
# file without its record is the same weights.
_IN_HEADER = ("backbone", "mean", "std", "positions", "settings", "origin", "method", "img_size")
_HEADER = "backbench"
_LONGEST_HEADER = 100_000_000  # bytes, as safetensors limits it
_Header: Any = defstruct(
    "CheckpointHeader",
    [
        (one.name, one.type, *([] if one.required else [one.default]))
        for one in fields(Checkpoint)
        if one.name in _IN_HEADER
    ],
    forbid_unknown_fields=True,
)


def header_of(checkpoint: Checkpoint) -> dict[str, str]:
    """Return what the header of a safetensors file says of our own weights."""
    facts = {name: getattr(checkpoint, name) for name in _IN_HEADER}
    kept = {name: value for name, value in facts.items() if value not in ("", None)}
    return {_HEADER: canonical_json(kept)}


def read_header(weights: Path) -> Checkpoint | None:
    """Return what the header of a weights file says of its use, None where it says nothing.

    Args:
        weights: A file of any kind.

    Raises:
        PreflightError: The header has our name and other content than this program writes.
    """
    try:
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length < min(weights.stat().st_size, _LONGEST_HEADER):
                return None
            text = json.loads(file.read(length))["__metadata__"][_HEADER]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # another kind of file
    try:
        facts = msgspec.json.decode(text, type=_Header)
    except (msgspec.MsgspecError, TypeError) as error:
        raise PreflightError(
            f"{weights}: what its header says of the weights is not valid ({error}); use the "
            "version that wrote it."
        ) from error
    return Checkpoint(**asdict(facts), path=weights, sha256=sha256_file(weights))


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
