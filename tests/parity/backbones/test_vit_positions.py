"""Positions against references written from the formulas alone, in float64 and plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from backbones.vit.attention import Attention
from backbones.vit.positions import resize_positions, sincos_table


@pytest.mark.parametrize("grid", [(3, 3), (2, 5)], ids=str)
def test_sincos_table(grid):
    dim, rows, columns = 16, *grid
    expected = torch.zeros(1, 1 + rows * columns, dim, dtype=torch.float64)
    for row in range(rows):
        for column in range(columns):
            for k in range(dim // 4):
                rate = 10000 ** (-k / (dim / 4))
                place = expected[0, 1 + row * columns + column]
                place[k], place[dim // 4 + k] = math.sin(column * rate), math.cos(column * rate)
                place[dim // 2 + k] = math.sin(row * rate)
                place[3 * dim // 4 + k] = math.cos(row * rate)
    torch.testing.assert_close(sincos_table(dim, grid, 1).double(), expected, rtol=0, atol=1e-7)


def test_sincos_table_needs_four_parts():
    with pytest.raises(ValueError, match="embed_dim % 4"):
        sincos_table(30, (2, 2))


def test_resizing_keeps_its_own_grid_and_follows_detectron2_on_others():
    table = torch.randn(1, 49, 8)
    assert resize_positions(table, (7, 7)) is table
    image = table.reshape(1, 7, 7, 8).permute(0, 3, 1, 2)
    expected = F.interpolate(image, size=(5, 11), mode="bicubic", align_corners=False)
    resized = resize_positions(table, (5, 11)).reshape(1, 5, 11, 8).permute(0, 3, 1, 2)
    torch.testing.assert_close(resized, expected)


def axis_bin(offset):
    """LoMaR's piecewise index: alpha 1.9, beta 3.8, gamma 15.2."""
    alpha, beta, gamma = 1.9, 3.8, 15.2
    if abs(offset) <= alpha:
        return offset
    far = round(alpha + math.log(abs(offset) / alpha) / math.log(gamma / alpha) * (beta - alpha))
    return int(math.copysign(min(far, beta), offset))


def irpe_attention(q, k, v, table, grid, num_prefix):
    """One head; q, k, v: (N, d) float64, table: (d, 50)."""
    length, dim = q.shape
    logits = torch.zeros(length, length, dtype=torch.float64)
    for i in range(length):
        for j in range(length):
            bucket = 49
            if i >= num_prefix and j >= num_prefix:
                a, b = i - num_prefix, j - num_prefix
                down, across = a // grid[1] - b // grid[1], a % grid[1] - b % grid[1]
                bucket = (axis_bin(down) + 3) * 7 + axis_bin(across) + 3
            logits[i, j] = q[i] @ k[j] / math.sqrt(dim) + q[i] @ table[:, bucket]
    return logits.softmax(-1) @ v


@pytest.mark.parametrize("num_prefix", [0, 1, 3])
@pytest.mark.parametrize("grid", [(4, 4), (2, 7), (6, 1)], ids=str)
def test_irpe_attention(grid, num_prefix):
    torch.manual_seed(0)
    dim, heads = 12, 2
    attention = Attention(dim, heads, irpe=True)
    table = torch.nn.init.normal_(attention.rpe_k.lookup_table_weight)
    tokens = torch.randn(1, num_prefix + grid[0] * grid[1], dim)
    out = attention(tokens, grid, num_prefix)

    weights = {k: v.detach().double() for k, v in attention.state_dict().items()}
    exact = tokens[0].double().requires_grad_()
    exact_table = table[0].detach().double().requires_grad_()
    q, k, v = (exact @ weights["qkv.weight"].T + weights["qkv.bias"]).chunk(3, -1)
    parts = [
        irpe_attention(q[:, s], k[:, s], v[:, s], exact_table, grid, num_prefix)
        for s in (slice(0, 6), slice(6, 12))
    ]
    expected = torch.cat(parts, -1) @ weights["proj.weight"].T + weights["proj.bias"]
    torch.testing.assert_close(out[0].double(), expected, rtol=1e-5, atol=1e-5)

    torch.autograd.backward([out.square().sum(), expected.square().sum()])
    torch.testing.assert_close(table.grad[0].double(), exact_table.grad, rtol=1e-4, atol=1e-5)


def test_irpe_bins_are_those_measured_on_the_official_code():
    assert [axis_bin(d) for d in range(-6, 7)] == [-3, -3, -3, -2, -2, -1, 0, 1, 2, 2, 3, 3, 3]
