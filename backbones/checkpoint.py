"""The ``Checkpoint`` record: weights and what made them. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

FRESH = "random"


@dataclass(frozen=True)
class Checkpoint:
    """Weights of a backbone, with their provenance.

    Attributes:
        backbone: A zoo name, or ``timm:NAME``.
        path: The weights file; None means fresh weights, drawn from the run's seed.
        sha256: Of the file's bytes; ``FRESH`` where there is no file. Identity of a run builds on
            this, never on a name.
        format: Key layout: backbench, mae, lomar, esvit, dino, mocov3, beit, swin or timm.
        branch: "teacher" or "student" where a file holds both networks, else empty.
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
