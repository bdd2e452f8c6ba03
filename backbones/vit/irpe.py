"""LoMaR's relative positions: image RPE (iRPE, Wu et al. 2021), contextual, product, on keys.

A pair of tokens falls into one of 49 buckets by its offset in rows and columns, or into a 50th if
one of the two is a prefix token. The query's dot product with the bucket's vector is added to the
attention logit. Offsets saturate at 4, so that one table serves every grid.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from backbones.vit.positions import Grid

# LoMaR sets ratio 1.9, from which iRPE derives these three (junchen14/LoMaR, models_lomar.py).
_ALPHA = 1.9  # offsets up to here keep a bin each
_BETA = 3.8  # largest bin before rounding down
_GAMMA = 8 * _ALPHA  # offset at which the logarithmic part would reach _BETA
_REACH = int(_BETA)
_BINS = 2 * _REACH + 1
PREFIX_BUCKET = _BINS * _BINS
NUM_BUCKETS = PREFIX_BUCKET + 1


class RelativeKeys(nn.Module):
    """The term that iRPE adds to attention logits, ``q . table[bucket]``, shared by all heads.

    LoMaR leaves q unscaled here, whereas the original iRPE scales it: weights trained one way are
    useless the other way.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.lookup_table_weight = nn.Parameter(torch.zeros(1, head_dim, NUM_BUCKETS))

    def forward(self, q: Tensor, grid: Grid, num_prefix: int) -> Tensor:
        """Return the term for all pairs.

        Args:
            q: (B, heads, num_prefix + rows * columns, head_dim), unscaled queries.
            grid: Rows and columns.
            num_prefix: Tokens in front that have no place in the grid.

        Returns:
            (B, heads, N, N), queries first.
        """
        by_bucket = q @ self.lookup_table_weight
        index = bucket_index(grid, num_prefix, q.device)
        return by_bucket.gather(-1, index.expand(*q.shape[:2], -1, -1))


@lru_cache(maxsize=16)
def bucket_index(grid: Grid, num_prefix: int, device: torch.device) -> Tensor:
    """Return the bucket of every pair of tokens, (N, N) int64, queries first."""
    rows, columns = grid
    by_row, by_column = _axis_bins(rows), _axis_bins(columns)
    pairs = by_row[:, None, :, None] * _BINS + by_column[None, :, None, :]
    length = num_prefix + rows * columns
    index = torch.full((length, length), PREFIX_BUCKET)
    index[num_prefix:, num_prefix:] = pairs.reshape(rows * columns, rows * columns)
    return index.to(device)


def _axis_bins(length: int) -> Tensor:
    """Return the bin, 0 to 6, of every (query, key) pair along one axis, (length, length)."""
    positions = torch.arange(length)
    bins = torch.tensor([_bin(offset) for offset in range(1 - length, length)])
    return bins[positions[:, None] - positions[None, :] + length - 1]


def _bin(offset: int) -> int:
    """Return iRPE's piecewise index of an offset (query minus key), shifted to start at 0."""
    distance = abs(offset)
    if distance > _ALPHA:
        share = math.log(distance / _ALPHA) / math.log(_GAMMA / _ALPHA)
        distance = int(min(round(_ALPHA + share * (_BETA - _ALPHA)), _BETA))
    return _REACH + (distance if offset >= 0 else -distance)
