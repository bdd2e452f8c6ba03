from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torchvision.ops import masks_to_boxes

from detection.data.augmentation import Crop, Resize
from detection.data.masks import PatchMasks, transform_masks

HEIGHT, WIDTH = 60, 80


@pytest.fixture
def masks() -> PatchMasks:
    """Objects inside, at the corner, over the whole image, of one pixel, and outside."""
    polygons: list[Any] = [
        [[20.0, 10, 50, 12, 45, 40, 22, 38]],
        [[-10.0, -10, 20, -10, 20, 25, -10, 25]],
        [[-5.0, -5, 90, -5, 90, 70, -5, 70]],
        [[30.0, 30, 31, 30, 31, 31, 30, 31]],
        [[100.0, 10, 120, 10, 120, 30, 100, 30]],
        [[60.0, 30, 80, 30, 80, 60, 60, 60], [5.0, 50, 15, 50, 15, 60, 5, 60]],
    ]
    return transform_masks(polygons, (), (HEIGHT, WIDTH), (HEIGHT, WIDTH))


def test_boxes_are_tight(masks: PatchMasks) -> None:
    whole = masks.to_bitmasks()
    assert whole.tensor.shape == (6, HEIGHT, WIDTH)
    assert torch.equal(masks.get_bounding_boxes().tensor, whole.get_bounding_boxes().tensor)
    assert masks.nonempty().tolist() == whole.nonempty().tolist() == [True] * 4 + [False, True]
    expected = masks_to_boxes(whole.tensor[:4]) + torch.tensor([0, 0, 1, 1])
    assert torch.equal(masks.get_bounding_boxes().tensor[:4], expected)


@pytest.mark.parametrize("size", [14, 28])
def test_targets_equal_those_of_bitmaps(masks: PatchMasks, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    which = torch.randint(0, 6, (400,), generator=generator)
    corners = torch.rand((400, 2, 2), generator=generator) * torch.tensor([WIDTH, HEIGHT])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    boxes[:50] = torch.tensor([0, 0, WIDTH, HEIGHT])
    boxes[50:90] = masks.to_bitmasks()[which[50:90]].get_bounding_boxes().tensor
    ours = masks[which].crop_and_resize(boxes, size)
    theirs = masks.to_bitmasks()[which].crop_and_resize(boxes, size)
    assert ours.dtype == theirs.dtype
    # Sums taken at other offsets round differently where a sample mean is one half.
    assert (ours != theirs).float().mean() < 1e-4
    assert ours.any()


def test_selection_works_inside_instances(masks: PatchMasks) -> None:
    instances = Instances((HEIGHT, WIDTH))
    instances.gt_masks = masks
    instances.gt_boxes = masks.get_bounding_boxes()
    for item in (
        torch.tensor([5, 0, 0]),
        torch.tensor([True, False, False, True, False, True]),
        slice(1, 3),
    ):
        chosen = instances[item].gt_masks
        assert torch.equal(chosen.to_bitmasks().tensor, masks.to_bitmasks().tensor[item])
        assert isinstance(chosen.get_bounding_boxes(), Boxes)
    for position in (0, -1):
        assert torch.equal(
            masks[position].to_bitmasks().tensor[0], masks.to_bitmasks().tensor[position]
        )
    assert len(instances.to("cpu").gt_masks) == 6
    assert len(masks[torch.tensor([1, 2])][torch.tensor([1])]) == 1


def test_no_masks_at_all() -> None:
    none = PatchMasks.from_patches([], (HEIGHT, WIDTH))
    assert len(none) == 0
    assert none.crop_and_resize(torch.zeros(0, 4), 28).shape == (0, 28, 28)
    assert none.get_bounding_boxes().tensor.shape == (0, 4)
    assert isinstance(none.to_bitmasks(), BitMasks)


def test_survives_a_move_of_device_and_type(masks: PatchMasks) -> None:
    moved = masks.to(torch.device("cpu"), non_blocking=True)
    assert moved.device.type == "cpu"
    assert torch.equal(moved.to_bitmasks().tensor, masks.to_bitmasks().tensor)


def test_memory_is_a_fraction_of_bitmaps() -> None:
    small: list[Any] = [[[10.0 * i, 10, 10 * i + 8, 10, 10 * i + 8, 18]] for i in range(50)]
    plan = (Resize(HEIGHT, WIDTH, 1024, 1024), Crop(0, 0, 1024, 1024))
    masks = transform_masks(small, plan, (HEIGHT, WIDTH), (1024, 1024))
    stored = sum(int(np.prod(span[3:].tolist())) for span in masks._spans)
    assert stored < 0.02 * masks.to_bitmasks().tensor.numel()
