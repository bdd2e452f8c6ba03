"""From a backbone's ``Features`` to the vectors that papers classify, all in one pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from backbones.features import Backbone, Features

# Blocks whose tokens are kept: facebookresearch/dino and microsoft/esvit, eval_linear.py,
# --n_last_blocks 4.
NUM_LAST_BLOCKS = 4


@dataclass(frozen=True)
class Layout:
    """Which columns of a row of features hold what.

    Attributes:
        parts: First column and the one behind the last, by part.
        kinds: The parts that make up each kind of feature, in order.
    """

    parts: Mapping[str, tuple[int, int]]
    kinds: Mapping[str, tuple[str, ...]]

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return max(end for _, end in self.parts.values())

    def columns(self, kind: str) -> list[tuple[int, int]]:
        """Return the column ranges of a kind, neighbours joined."""
        ranges: list[tuple[int, int]] = []
        for part in self.kinds[kind]:
            start, end = self.parts[part]
            if ranges and ranges[-1][1] == start:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((start, end))
        return ranges

    def width_of(self, kind: str) -> int:
        """Return the number of columns of a kind."""
        return sum(end - start for start, end in self.columns(kind))


def parts_of(features: Features) -> dict[str, Tensor]:
    """Return the vectors of a batch, each (B, C), by part.

    * ``pooled``: the contract's own;
    * ``cls.i``, ``mean.i``: class token and mean of the patch tokens of the i-th last block, norms
      as ``Features`` has them (for Swin: without, before the last stage), farthest block first;
    * ``map.i``: mean of the i-th map, where there are several.
    """
    parts: dict[str, Tensor] = {"pooled": features.pooled}
    count = len(features.patch_tokens)
    for place, prefix in enumerate(features.prefix_tokens):
        if prefix.shape[1]:
            parts[f"cls.{count - place}"] = prefix[:, 0]
    for place, patches in enumerate(features.patch_tokens):
        parts[f"mean.{count - place}"] = patches.mean(dim=1)
    if len(features.maps) > 1:
        for place, image in enumerate(features.maps):
            parts[f"map.{place}"] = image.mean(dim=(2, 3))
    return parts


def to_rows(features: Features, layout: Layout) -> Tensor:
    """Return the features of a batch as float32 rows, (B, layout.width)."""
    parts = parts_of(features)
    return torch.cat([parts[name].float() for name in layout.parts], dim=1)


@torch.no_grad()
def probe_layout(backbone: Backbone, img_size: int, device: torch.device) -> Layout:
    """Return the layout of a backbone's rows, from a forward pass on noise.

    A ``pooled`` that equals another part to the bit is kept once.

    Args:
        backbone: In evaluation mode, on ``device``.
        img_size: Of the views, in pixels.
        device: Where it runs.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, img_size, img_size, generator=generator).to(device)
    found = parts_of(backbone(noise, num_last_blocks=NUM_LAST_BLOCKS))
    pooled = found["pooled"]
    twins = [n for n in ("cls.1", "mean.1") if n in found and torch.equal(found[n], pooled)]
    names = [name for name in found if name != "pooled" or not twins]
    parts: dict[str, tuple[int, int]] = {}
    start = 0
    for name in names:
        parts[name] = (start, start + found[name].shape[1])
        start = parts[name][1]
    return Layout(parts, _kinds(names, twins))


def _kinds(names: Sequence[str], twins: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the kinds of features that some parts allow.

    ``cls4`` and ``mean4`` are DINO's and EsViT's concatenations of the last four blocks (of all,
    where a backbone has fewer), ``cls+mean`` is what DINO takes for ViT-B, ``stages`` the means of
    all maps.
    """
    series = {
        prefix: tuple(name for name in names if name.startswith(prefix + "."))
        for prefix in ("cls", "mean", "map")
    }
    kinds: dict[str, tuple[str, ...]] = {"pooled": (twins[0] if twins else "pooled",)}
    for prefix in ("cls", "mean"):
        # ViL's global tokens end before its last stage, whose mean is pooled.
        if f"{prefix}.1" in series[prefix]:
            kinds[prefix] = (f"{prefix}.1",)
            kinds[f"{prefix}{NUM_LAST_BLOCKS}"] = series[prefix]
    if "cls" in kinds:
        kinds["cls+mean"] = ("cls.1", "mean.1")
    if series["map"]:
        kinds["stages"] = series["map"]
    return kinds
