"""Swin's block against timm's own on tokens that were padded beforehand, gradients included."""

import pytest
import torch
import torch.nn.functional as F
from fvcore.nn import FlopCountAnalysis
from timm.models.swin_transformer import SwinTransformerBlock

from backbones.timm_networks.swin import SwinBlock, shift_mask, windows_of


def pair(shift, window=4, **arguments):
    """Return our block and timm's with the same weights, in float64."""
    torch.manual_seed(0)
    # Larger than any window, so that timm does not shrink it.
    shape = {"dim": 12, "input_resolution": (32, 32), "num_heads": 3, "window_size": window}
    theirs = SwinTransformerBlock(**shape, shift_size=shift, dynamic_mask=True, **arguments)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = SwinTransformerBlock(**shape, shift_size=shift, dynamic_mask=True, **arguments)
    ours.load_state_dict(theirs.state_dict())
    ours.__class__ = SwinBlock
    return ours.double(), theirs.double()


def padded_first(block, x):
    """Return the attention of timm's block where the originals pad before they shift."""
    rows, columns = x.shape[1:3]
    high, wide = block.window_size
    padded = block._attn(F.pad(x, (0, 0, 0, -columns % wide, 0, -rows % high)))
    return padded[:, :rows, :columns]


@pytest.mark.parametrize("shift", [0, 2, (2, 0), (1, 2)])
@pytest.mark.parametrize("grid", [(8, 8), (4, 12), (6, 8), (8, 7), (3, 3), (5, 9), (1, 1)])
@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_it_is_timms_block_on_padded_tokens(shift, grid, qkv_bias, fused):
    ours, theirs = pair(shift, qkv_bias=qkv_bias)
    ours.attn.fused_attn = fused
    given = torch.randn(2, *grid, 12, dtype=torch.float64)
    x, y = given.clone().requires_grad_(), given.clone().requires_grad_()
    got, wanted = ours._attn(x), padded_first(theirs, y)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    weights = torch.randn_like(given)
    (got * weights).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-10, atol=1e-10)
    pairs = zip(ours.attn.named_parameters(), theirs.attn.parameters(), strict=True)
    for (name, mine), other in pairs:
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-9, atol=1e-9, msg=name)


def test_a_mask_that_is_kept_serves_inference_and_training_alike():
    windows_of.cache_clear()
    shift_mask.cache_clear()
    ours, theirs = pair(2)
    x = torch.randn(1, 8, 8, 12, dtype=torch.float64)
    with torch.inference_mode():
        first = ours(x).clone()
    again = ours(x.clone().requires_grad_())
    again.sum().backward()
    torch.testing.assert_close(first, again.detach())
    torch.testing.assert_close(theirs(x), again.detach())


def test_stochastic_parts_are_those_of_the_block():
    ours, _ = pair(0, attn_drop=0.5, proj_drop=0.5)
    x = torch.randn(1, 8, 8, 12, dtype=torch.float64)
    assert not torch.equal(ours._attn(x), ours._attn(x))
    ours.eval()
    assert torch.equal(ours._attn(x), ours._attn(x))


@pytest.mark.parametrize("grid", [(8, 8), (6, 7)])
def test_arithmetic_can_be_counted(grid):
    """Counting traces the network; only real tokens are projected."""
    ours, _ = pair(2)
    analysis = FlopCountAnalysis(ours.attn.qkv, torch.zeros(1, *grid, 12, dtype=torch.float64))
    projected = analysis.total()
    whole = FlopCountAnalysis(ours, torch.zeros(1, *grid, 12, dtype=torch.float64))
    whole.unsupported_ops_warnings(False)
    assert whole.by_module()["attn.qkv"] == projected == grid[0] * grid[1] * 12 * 36
