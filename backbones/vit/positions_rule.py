"""How methods resize their position tables to other image sizes. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PositionRule:
    """A way to resize a table, always bicubically with corners not aligned.

    Attributes:
        nudge: Added to both sides of the wanted grid when the scale is computed, 0 for none.
        antialias: Smooths a table before it shrinks.
    """

    nudge: float = 0.0
    antialias: bool = False

    @property
    def about(self) -> str:
        """Return the rule in words."""
        parts = ["bicubic"]
        parts += [f"scale nudged by {self.nudge:g} patches"] if self.nudge else []
        parts += ["antialiased"] if self.antialias else []
        return ", ".join(parts)


# MAE (facebookresearch/mae util/pos_embed.py) and ViTDet (detectron2 modeling/backbone/utils.py).
BICUBIC = PositionRule()
# DINO, iBOT, EsViT's ViT and DINOv2 without registers (facebookresearch/dino
# vision_transformer.py; facebookresearch/dinov2 interpolate_offset=0.1).
NUDGED = PositionRule(nudge=0.1)
# timm (layers/pos_embed.py) and DINOv2 with registers (interpolate_antialias=True, offset 0).
ANTIALIASED = PositionRule(antialias=True)

# By what made the weights, for our own files, whose layout does not tell.
RULE_OF_METHOD = {"dino": NUDGED, "esvit": NUDGED, "ibot": NUDGED, "dinov2": NUDGED}
