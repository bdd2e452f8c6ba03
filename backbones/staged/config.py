"""Sizes of the staged networks; imports no torch, so that zoo files can."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CvTConfig:
    """Sizes of a CvT (Wu et al. 2021), stage by stage.

    Attributes:
        channels: Width of each stage.
        depths: Number of blocks of each stage.
        num_heads: Attention heads of each stage.
        window: Side in tokens of the attention windows of EsViT's variant; 0 attends globally, with
            keys and values at half the resolution, as the paper does (section 3.2).
        class_token: The last stage has a class token, which is pooled; without, the mean of the
            tokens is.
        quick_gelu: Approximate GELU by x * sigmoid(1.702 x), as both Microsoft projects do.
    """

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window: int = 0
    class_token: bool = False
    quick_gelu: bool = True


@dataclass(frozen=True)
class ViLConfig:
    """Sizes of a Vision Longformer (Zhang et al. 2021), stage by stage.

    Attributes:
        channels: Width of each stage.
        depths: Number of blocks of each stage.
        num_heads: Attention heads of each stage.
        num_global: Global tokens of each stage.
        reach: Relative positions of each stage are told apart up to ``reach - 1`` rows and columns;
            tokens farther apart share the bias at the border of the table.
        window: Side in tokens of the chunks whose neighbours a token attends to.
    """

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    num_global: tuple[int, ...]
    reach: tuple[int, ...]
    window: int = 7
