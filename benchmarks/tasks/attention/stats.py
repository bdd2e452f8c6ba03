"""How sharp attention is and how far it reaches, by block and head."""

import torch
from torch import Tensor

from benchmarks.tasks.attention.maps import Geometry


def entropy(shares: Tensor, geometry: Geometry) -> Tensor:
    """Return the mean entropy of what patches attend to, by head, in nats.

    The entropy of a patch's shares over all keys that it sees, class token included: 0 where it
    looks at one token, the logarithm of their number where at all alike.

    Args:
        shares: (B * W, heads, N, N), queries first.
        geometry: Of the block.

    Returns:
        (heads,) float64, the mean over images and patches.
    """
    exact = shares.double()
    rows = -(exact * exact.clamp(min=torch.finfo(torch.float64).tiny).log()).sum(dim=-1)
    return _mean_over_patches(rows, geometry)


def distance(shares: Tensor, geometry: Geometry) -> Tensor:
    """Return how far patches look on average, by head, in pixels.

    Dosovitskiy et al. 2021 (ViT), section 4.5 and figure 7: the distance of a patch from the
    others, each weighted by its share. Tokens without a place do not count.

    Args:
        shares: As for ``entropy``.
        geometry: Likewise.

    Returns:
        (heads,) float64, the mean over images and patches.
    """
    places = geometry.places.to(shares.device)
    real = (places[..., 0] >= 0).double()
    apart = torch.cdist(places.double(), places.double()) * geometry.stride
    weights = _by_window(shares.double(), geometry) * real[None, :, None, None, :]
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    rows = (weights * apart[None, :, None]).sum(dim=-1)
    return _mean_over_patches(rows.flatten(0, 1), geometry)


def _mean_over_patches(rows: Tensor, geometry: Geometry) -> Tensor:
    """Return the mean of (B * W, heads, N) over images and the tokens that have a place."""
    real = (geometry.places[..., 0] >= 0).to(rows)
    by_window = _by_window(rows, geometry) * real[None, :, None]
    images = by_window.shape[0]
    return by_window.sum(dim=(0, 1, 3)) / (images * real.sum())


def _by_window(values: Tensor, geometry: Geometry) -> Tensor:
    """Return (B * W, ...) as (B, W, ...)."""
    return values.reshape(-1, len(geometry.places), *values.shape[1:])
