"""Masks drawn a few at a time equal detectron2's, drawn all at once."""

import pycocotools.mask as rle_tools
import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances

from detection.model.lazy_masks import with_lazy_masks
from detection.scoring import evaluate as module


def found(count: int, side: int = 64) -> Instances:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand((count, 2), generator=generator) * side * 0.7
    sizes = torch.rand((count, 2), generator=generator) * side * 0.4
    sizes[0] = 0  # detectron2 drops a box without area
    instances = Instances((side, side))
    instances.pred_boxes = Boxes(torch.cat([corners, corners + sizes], dim=1))
    instances.scores = torch.rand(count, generator=generator)
    instances.pred_classes = torch.zeros(count, dtype=torch.int64)
    instances.pred_masks = torch.rand((count, 1, 28, 28), generator=generator)
    return instances


def copied(instances: Instances) -> Instances:
    return Instances(
        instances.image_size,
        **{name: value.clone() for name, value in instances.get_fields().items()},
    )


@pytest.mark.parametrize("at_once", [1, 10**4, 2**24])
def test_the_same_masks_whatever_is_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(module, "_PIXELS_AT_ONCE", at_once)
    height, width = 90, 130
    ours = with_lazy_masks(copied(found(20)), height, width)
    theirs = detector_postprocess(copied(found(20)), height, width)
    assert len(ours) == len(theirs) == 19
    assert torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)
    sample = {"image_id": 1, "height": height, "width": width}
    kept = module._keep(sample, ours).masks
    assert kept == module._keep(sample, theirs).masks
    assert kept is not None
    decoded = [rle_tools.decode({"size": [height, width], "counts": text}) for text in kept]
    drawn = theirs.pred_masks.numpy()
    assert all((a == b).all() for a, b in zip(decoded, drawn, strict=True))


def test_none_is_none() -> None:
    ours = with_lazy_masks(copied(found(20)[:0]), 9, 9)
    assert module._keep({"image_id": 1, "height": 9, "width": 9}, ours).masks == []
