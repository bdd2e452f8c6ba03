"""RoIAlign as matrix products equals torchvision's kernel, forward and backward."""

import pytest
import torch
from detectron2.layers import ROIAlign

from detection.model.roi_align import LARGEST_MAP, SeparableRoIAlign


@pytest.mark.parametrize("side", [8, 24])
@pytest.mark.parametrize("bins", [7, 14])
def test_equals_torchvision(side: int, bins: int) -> None:
    theirs = ROIAlign((bins, bins), 1 / 8, 2, aligned=True)
    ours = SeparableRoIAlign(theirs)
    generator = torch.Generator().manual_seed(side)
    # Tiny, huge, partly and wholly outside regions, in no order of their images.
    corners = torch.rand(60, 2, generator=generator) * 12 * side - 2 * side
    sizes = torch.rand(60, 2, generator=generator) * 10 * side
    images = torch.randint(0, 3, (60, 1), generator=generator).float()
    rois = torch.cat([images, corners, corners + sizes], dim=1)
    results = []
    for pool in (theirs, ours):
        maps = torch.randn(3, 5, side, side, generator=torch.Generator().manual_seed(0))
        maps.requires_grad_()
        pooled = pool(maps, rois)
        pooled.square().sum().backward()
        results.append((pooled.detach(), maps.grad))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-4, atol=1e-4)


def test_no_regions_and_large_maps_take_the_usual_way() -> None:
    calls = []

    class Spy(ROIAlign):
        def forward(self, maps: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
            calls.append(len(rois))
            return super().forward(maps, rois)

    ours = SeparableRoIAlign(Spy((7, 7), 1 / 8, 2, aligned=True))
    assert ours(torch.randn(1, 4, 8, 8), torch.zeros(0, 5)).shape == (0, 4, 7, 7)
    side = int(LARGEST_MAP**0.5) + 1
    ours(torch.randn(1, 4, side, side), torch.tensor([[0.0, 8.0, 8.0, 40.0, 40.0]]))
    assert calls == [0, 1]
