"""What a plan takes a detector's heads for, against what the built detector computes."""

from dataclasses import asdict, replace

import pytest
import torch
from fvcore.nn import FlopCountAnalysis

from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from detection.model.arithmetic import head_multiply_adds
from detection.model.detector import build_detector
from detection.recipes import RECIPES


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("mini", {}),
        ("mini", {"box_convs": 2, "box_fcs": (64, 32), "rpn_convs": 2, "mask_convs": 1}),
        ("mini", {"detector": "cascade-mask-rcnn"}),
        ("mini", {"channels": 64, "roi_samples": 16}),
    ],
)
def test_it_comes_near_what_the_layers_compute(recipe, changes):
    config = RECIPES[recipe]()
    model = replace(config.model, **changes)
    config = replace(config, model=model).resolved()
    side, samples = config.data.img_size, model.roi_samples
    spec = get_spec("swin-nano")
    net = spec.build(BuildOptions(img_size=side))
    detector = build_detector(net, spec, config, (10, True), 0)
    maps = detector.backbone(torch.zeros(1, 3, side, side))
    with_anchors = [maps[f"p{level}"] for level in model.rpn_levels]
    counted = _count(detector.proposal_generator.rpn_head, with_anchors)
    heads = detector.roi_heads
    boxes = heads.box_head if isinstance(heads.box_head, torch.nn.ModuleList) else [heads.box_head]
    regions = torch.zeros(samples, model.channels, 7, 7)
    counted += sum(_count(head, regions) for head in boxes)
    positive = torch.zeros(samples // 4, model.channels, 14, 14)
    counted += _count(_Layers(heads.mask_head), positive)
    levels = {*model.rpn_levels, *model.roi_levels}
    counted += sum(maps[f"p{level}"][0, 0].numel() for level in levels) * 9 * model.channels**2
    assert head_multiply_adds(asdict(model), side) == pytest.approx(counted, rel=0.1)


class _Layers(torch.nn.Module):
    """The layers of a mask head, without its losses."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, regions):
        return self.head.layers(regions)


def _count(module, inputs):
    analysis = FlopCountAnalysis(module, (inputs,))
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
