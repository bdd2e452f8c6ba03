"""Images mixed with others of their micro-batch: mixup and CutMix, draws handed in.

Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) in timm's element-wise form (timm
``data/mixup.py``, mode "elem"): every image has draws of its own, its partner is the image at the
mirrored place of the micro-batch.
"""

import math

import numpy as np
import torch
from torch import Tensor

from pretrain.parts.views.photometric import happens


def draw_mixing(
    mixup: float, cutmix: float, size: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw how one image is mixed.

    Args:
        mixup: Both parameters of the Beta distribution of shares; 0 for never.
        cutmix: Likewise.
        size: Side of the image in pixels.
        generator: Source of randomness.

    Returns:
        "share" (), of the image itself outside the box; "box" (4,), top, left, bottom, right of
        what is cut from the partner, in pixels, empty without CutMix.
    """
    share, box = 1.0, [0, 0, 0, 0]
    pastes = cutmix > 0 and (mixup == 0 or happens(0.5, generator))
    if pastes:
        box = _draw_square(_draw_beta(cutmix, generator), size, generator)
    elif mixup > 0:
        share = _draw_beta(mixup, generator)
    return {"share": torch.tensor(share), "box": torch.tensor(box)}


def mirrored(images: int, part: int, device: torch.device) -> Tensor:
    """Return the partner of each image of a batch, (B,): the one at the mirrored place of its part.

    Args:
        images: B.
        part: Images of a micro-batch of the recipe, several of which may be held at once; 0 takes
            the whole batch.
        device: Of the result.
    """
    places = torch.arange(images, device=device)
    if not part or images % part:
        return places.flip(0)
    return places.view(-1, part).flip(1).flatten()


def mix(
    images: Tensor, share: Tensor, box: Tensor, partners: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mix each image of a batch with its partner.

    Args:
        images: (B, 3, H, W).
        share: (B,), see ``draw_mixing``.
        box: (B, 4), likewise.
        partners: (B,), see ``mirrored``; by default those of the whole batch.

    Returns:
        Mixed images, and each one's own part in it, (B,): what its own label weighs.
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device)[None, :, None]
    columns = torch.arange(width, device=images.device)[None, None]
    top, left, bottom, right = (edge[:, None, None] for edge in box.unbind(dim=1))
    pasted = (top <= rows) & (rows < bottom) & (left <= columns) & (columns < right)
    share = share.to(images.dtype)
    others = images.flip(0) if partners is None else images[partners]
    kept = torch.where(pasted, 0.0, share[:, None, None])[:, None]
    area = pasted.sum(dim=(1, 2)).to(images.dtype) / (height * width)
    return images.lerp(others, 1 - kept), share * (1 - area)


def _draw_beta(parameter: float, generator: torch.Generator) -> float:
    # torch draws from this distribution by its global generator alone.
    seed = int(torch.randint(2**62, (), generator=generator))
    return float(np.random.default_rng(seed).beta(parameter, parameter))


def _draw_square(share: float, size: int, generator: torch.Generator) -> list[int]:
    """Return a square of area ``1 - share`` around a random place, cut at the image's edges."""
    side = int(size * math.sqrt(1 - share))
    middle = torch.randint(size, (2,), generator=generator)
    low = (middle - side // 2).clamp(min=0).tolist()
    high = (middle + (side + 1) // 2).clamp(max=size).tolist()
    return [*low, *high]
