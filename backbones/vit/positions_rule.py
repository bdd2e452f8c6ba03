"""How methods resize their position tables to other image sizes. Imports no torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PositionRule:
    """A way to resize a table, with corners not aligned.

    Attributes:
        nudge: Added to both sides of the wanted grid when the scale is computed, 0 for none.
        antialias: Smooths a table before it shrinks.
        mode: Interpolation, as torch calls it.
        counts_patches: Rotary positions next to the table count patches at every image size. They
            are otherwise scaled to the grid of pretraining.
    """

    nudge: float = 0.0
    antialias: bool = False
    mode: Literal["bicubic", "bilinear"] = "bicubic"
    counts_patches: bool = False

    @property
    def about(self) -> str:
        """Return the rule in words."""
        parts: list[str] = [self.mode]
        parts += [f"scale nudged by {self.nudge:g} patches"] if self.nudge else []
        parts += ["antialiased"] if self.antialias else []
        parts += ["rotary positions not scaled"] if self.counts_patches else []
        return ", ".join(parts)


# MAE (facebookresearch/mae util/pos_embed.py) and ViTDet (detectron2 modeling/backbone/utils.py).
BICUBIC = PositionRule()
# DINO, iBOT, EsViT's ViT and DINOv2 without registers (facebookresearch/dino
# vision_transformer.py; facebookresearch/dinov2 interpolate_offset=0.1).
NUDGED = PositionRule(nudge=0.1)
# timm (layers/pos_embed.py) and DINOv2 with registers (interpolate_antialias=True, offset 0).
ANTIALIASED = PositionRule(antialias=True)
# Perception Encoder (facebookresearch/perception_models core/vision_encoder/pe.py, rope.py).
PERCEPTION = PositionRule(mode="bilinear", counts_patches=True)

# As cards of weights name them.
RULES = {
    "bicubic": BICUBIC,
    "nudged": NUDGED,
    "antialiased": ANTIALIASED,
    "perception": PERCEPTION,
}


def name_of_rule(rule: PositionRule | None) -> str:
    """Return the name of a rule on cards, "" for None and for a rule without a name."""
    return next((name for name, known in RULES.items() if known == rule), "")


# By what made the weights, for own networks in our own files whose card does not tell.
RULE_OF_METHOD = dict.fromkeys(("dino", "esvit", "ibot", "dinov2", "franca"), NUDGED)
