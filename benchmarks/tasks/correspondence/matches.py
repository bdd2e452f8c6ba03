"""Whether a backbone's regions find themselves again in another view of the same image.

Li et al. 2022 (EsViT), in the form of microsoft/esvit ``analyze_models.py``,
``measure_correspondence``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from backbones.training.stream import sample_generator
from benchmarks.labelled.features.views import Show, ViewBatch
from pretrain.parts.views.photometric import Photometric, happens, jitter_colors

_JITTER = Photometric()


@dataclass(frozen=True)
class RegionMatches:
    """The surest pairs of regions of two views, surest first.

    Attributes:
        first: (B, K) cells of the first view, in raster order.
        second: (B, K) what they match in the second.
        right: (B, K) whether that is the place itself.
        pixels: (B, K) how far it is from there, in pixels.
    """

    first: Tensor
    second: Tensor
    right: Tensor
    pixels: Tensor


def mirrored_view(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Return the second view of an image: mirrored, its colours jittered at times, then grey.

    Args:
        pixels: (3, H, W) uint8.
        generator: Source of randomness.
    """
    view = pixels.flip(-1)
    if happens(_JITTER.jitter_probability, generator):
        view = jitter_colors(view, _JITTER.jitter, generator)
    grey: Tensor = TF.rgb_to_grayscale(view, num_output_channels=3)
    return grey


class ShowPairs:
    """Makes both views of given images. Picklable."""

    def __init__(self, show: Show, seed: int) -> None:
        """Take what makes the first view, and the seed of the second."""
        self._show = show
        self._seed = seed

    def __call__(self, indices: Sequence[int]) -> tuple[ViewBatch, Tensor]:
        """Return first views, and second ones (B, 3, S, S) uint8."""
        shown = self._show(indices)
        generators = [sample_generator(self._seed, 0, index) for index in indices]
        pairs = zip(shown.pixels, generators, strict=True)
        return shown, torch.stack([mirrored_view(pixels, draws) for pixels, draws in pairs])


def match_mirrored(
    first: Tensor, second: Tensor, columns: int, stride: int, num_pairs: int
) -> RegionMatches:
    """Match every region of a view with the most similar one of its mirrored second view.

    Args:
        first: (B, N, C) regions in raster order.
        second: (B, N, C) those of the mirrored view.
        columns: Regions in a row.
        stride: Pixels between the middles of neighbours.
        num_pairs: The pairs of highest similarity that are kept, at most N.
    """
    ours, theirs = (F.normalize(x.double(), dim=-1) for x in (first, second))
    similarity, best = (ours @ theirs.transpose(1, 2)).max(dim=2)
    kept = similarity.topk(min(num_pairs, similarity.shape[1]), dim=1).indices
    found = best.gather(1, kept)
    wanted = mirrored(kept, columns)
    down = (found // columns - wanted // columns).double()
    right = (found % columns - wanted % columns).double()
    return RegionMatches(
        kept, found, found == wanted, stride * (down.square() + right.square()).sqrt()
    )


def mirrored(cells: Tensor, columns: int) -> Tensor:
    """Return where cells lie in the mirrored image."""
    return cells + columns - 1 - 2 * (cells % columns)
