"""What weights say about how their network is used, as far as plans need it. Imports no torch."""

import re
from dataclasses import dataclass
from typing import Self

from backbones.base.errors import PreflightError
from backbones.catalog import TIMM
from backbones.checkpoint import FRESH, OWN_FORMAT, Checkpoint
from backbones.vit.positions_rule import (
    BICUBIC,
    NUDGED,
    RULE_OF_METHOD,
    RULES,
    PositionRule,
)
from backbones.weights.formats import FORMATS


@dataclass(frozen=True)
class WeightsUse:
    """How a network is used with its weights.

    Attributes:
        has_weights: False for fresh weights.
        positions: How a table of absolute positions is resized; None as the network's spec says.
        table: Side, in patches, of the table in the file; 0 where it has none, None if unknown.
        img_size: Side in pixels of the images of pretraining; None if unknown.
        norm_behind_pooling: Whether the file has its final norm behind mean pooling.
        method: What made the weights; empty if unknown.
        said: How the file is read and used, in words, for plans.
    """

    has_weights: bool = False
    positions: PositionRule | None = BICUBIC
    table: int | None = None
    img_size: int | None = None
    norm_behind_pooling: bool = False
    method: str = ""
    said: tuple[str, ...] = ()

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint) -> Self:
        """Return what a checkpoint says without a look into its file."""
        return cls(
            checkpoint.sha256 != FRESH,
            positions_of_checkpoint(checkpoint),
            None,
            checkpoint.img_size,
            method=checkpoint.method,
        )

    @classmethod
    def of_record(
        cls, sha256: str, form: str, method: str, img_size: int | None, backbone: str
    ) -> Self:
        """Return what is known of weights by the facts that records keep.

        Args:
            sha256: Of the weights, ``FRESH`` for none.
            form: Name of their format.
            method: What made them.
            img_size: Side in pixels of the images of pretraining, None if unknown.
            backbone: Name of the network.
        """
        positions = positions_of(form, method, backbone)
        return cls(sha256 != FRESH, positions, None, img_size, method=method)


# timm's names of DINOv2 without registers, whatever the tag, and its tag of DINO.
_NUDGED = re.compile(rf"{TIMM}(\w+_patch\d+_dinov2(\..*)?|\w+\.dino)")


def is_nudged(backbone: str) -> bool:
    """Tell whether a network of timm is named after weights of DINO, or DINOv2 without registers.

    Their authors' code adds 0.1 to the scale of positions, which timm's own networks leave out. For
    DINOv2 with registers the two agree.

    Args:
        backbone: Name of the network, ``timm:NAME.TAG``.
    """
    return "_reg4_" not in backbone and _NUDGED.fullmatch(backbone) is not None


def positions_of_checkpoint(checkpoint: Checkpoint) -> PositionRule | None:
    """Return how a checkpoint's table is resized: as its card states, or as ``positions_of`` says.

    Raises:
        PreflightError: The card names a rule that does not exist.
    """
    if checkpoint.positions:
        if checkpoint.positions not in RULES:
            raise PreflightError(
                f"{checkpoint.source}: positions {checkpoint.positions!r} on its card is not a "
                f"rule; use one of {', '.join(RULES)}."
            )
        return RULES[checkpoint.positions]
    form = checkpoint.origin or checkpoint.format
    return positions_of(form, checkpoint.method, checkpoint.backbone)


def positions_of(form: str, method: str, backbone: str) -> PositionRule | None:
    """Return how a table of positions is resized; own ViTs in our own files follow their method.

    Networks of timm are pretrained here with timm's rule, whatever the method.

    Args:
        form: Name of the weights' format.
        method: What made the weights.
        backbone: Name of the network.

    Returns:
        None for other own files, which follow ``BackboneSpec.position_rule``.
    """
    if form not in FORMATS:
        return BICUBIC
    if form == "timm" and is_nudged(backbone):
        return NUDGED
    if form != OWN_FORMAT:
        return FORMATS[form].positions
    return None if backbone.startswith(TIMM) else RULE_OF_METHOD.get(method)
