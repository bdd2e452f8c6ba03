"""What a detector costs: parameters and multiply-adds."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.utils.analysis import FlopCountAnalysis
from torch import Tensor, nn

from detection.model.detector import Detector


def parameters_millions(module: nn.Module) -> float:
    """Return the number of parameters, frozen ones too, in millions."""
    return sum(p.numel() for p in module.parameters()) / 1e6


def gflops(detector: Detector, side: int) -> float:
    """Return the 10^9 multiply-adds (as fvcore and papers count) of detecting in one image.

    The image is noise, which gives as many proposals as the config allows, and the mask head
    counts for as many regions as an image may have: a number of the network and the config, which
    does not change with what the weights find.

    Args:
        detector: On any device.
        side: Of the square image, in pixels.
    """
    training = detector.training
    detector.eval()
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=generator)
    with torch.no_grad(), _nothing_found(detector) as regions:
        total = _count(detector, [{"image": image.to(detector.device)}])
        if detector.roi_heads.mask_on:
            total += _count(*_mask_head(detector, regions))
    detector.train(training)
    return total / 1e9


@contextmanager
def _nothing_found(detector: Detector) -> Iterator[int]:
    """Let no score be high enough; yield how many regions an image may have."""
    predictors = [m for m in detector.modules() if isinstance(m, FastRCNNOutputLayers)]
    thresholds = [predictor.test_score_thresh for predictor in predictors]
    for predictor in predictors:
        predictor.test_score_thresh = 1.0
    try:
        yield predictors[-1].test_topk_per_image
    finally:
        for predictor, threshold in zip(predictors, thresholds, strict=True):
            predictor.test_score_thresh = threshold


def _mask_head(detector: Detector, regions: int) -> tuple[nn.Module, Tensor]:
    """Return the mask head's layers and an input of theirs, (regions, C, h, w)."""
    heads = detector.roi_heads
    channels = detector.backbone.output_shape()[heads.mask_in_features[0]].channels
    inputs = torch.zeros(regions, channels, *heads.mask_pooler.output_size)
    return nn.Sequential(*heads.mask_head.children()), inputs.to(detector.device)


def _count(module: nn.Module, inputs: Any) -> float:
    analysis = FlopCountAnalysis(module, inputs)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_flops)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return float(analysis.tracer_warnings("none").total())


def _attention_flops(inputs: list[Any], outputs: list[Any]) -> int:
    """Count both products of attention: queries (.., N, D), keys (.., M, D): 2 N M D a head."""
    del outputs
    *batch, queries, width = inputs[0].type().sizes()
    keys: int = inputs[1].type().sizes()[-2]
    product: int = 2 * math.prod(batch) * queries * keys * width
    return product
