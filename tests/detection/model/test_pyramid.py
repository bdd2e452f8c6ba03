"""The simple pyramid at strides that detectron2's does not know, and its geometry."""

import pytest
import torch

from detection.model.pyramid import MapNorm, SimplePyramid, make_norm

LEVELS = (2, 3, 4, 5, 6)


@pytest.mark.parametrize("stride", [4, 8, 14, 16, 32])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (224, 224)])
def test_every_level_has_its_stride(stride: int, height: int, width: int) -> None:
    pyramid = SimplePyramid(32, stride, 16, LEVELS, "LN")
    features = torch.randn(1, 32, -(-height // stride), -(-width // stride))
    maps = pyramid(features, height, width)
    assert list(maps) == [f"p{level}" for level in LEVELS]
    for level in LEVELS:
        assert maps[f"p{level}"].shape == (1, 16, -(-height // 2**level), -(-width // 2**level))


def test_resampling_keeps_the_geometry() -> None:
    """A ramp over pixel positions stays that ramp when cells of 14 become cells of 16."""
    pyramid = SimplePyramid(1, 14, 8, (4,), "")
    side = 448
    cells = side // 14
    centres = (torch.arange(cells) + 0.5) * 14
    resampled = pyramid._resample(centres.view(1, 1, 1, -1).expand(1, 1, cells, cells), side, side)
    expected = (torch.arange(side // 16) + 0.5) * 16
    torch.testing.assert_close(resampled[0, 0, 0, 1:-1], expected[1:-1])


def test_levels_above_five_are_subsampled() -> None:
    maps = SimplePyramid(8, 16, 8, (4, 5, 6), "LN")(torch.randn(1, 8, 8, 8), 128, 128)
    torch.testing.assert_close(maps["p6"], maps["p5"][..., ::2, ::2])


def test_every_level_gets_gradients() -> None:
    pyramid = SimplePyramid(32, 16, 16, LEVELS, "LN")
    maps = pyramid(torch.randn(1, 32, 8, 8), 128, 128)
    sum(m.square().sum() for m in maps.values()).backward()
    assert all(p.grad is not None for p in pyramid.parameters())


def test_map_norm_equals_detectron2s() -> None:
    from detectron2.layers.batch_norm import LayerNorm

    ours, theirs = MapNorm(24), LayerNorm(24)
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.linspace(0.5, 2.0, 24))
            norm.bias.copy_(torch.linspace(-1.0, 1.0, 24))
    maps = torch.randn(2, 24, 5, 7) * 3 + 1
    torch.testing.assert_close(ours(maps), theirs(maps), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["", "LN", "GN", "BN"])
def test_norms_keep_shapes(norm: str) -> None:
    assert make_norm(norm, 64)(torch.randn(2, 64, 4, 4)).shape == (2, 64, 4, 4)
