"""What a detector costs: parameters and multiply-adds."""

import math
from typing import Any

import torch
from detectron2.utils.analysis import FlopCountAnalysis
from torch import nn

from detection.model import Detector


def parameters_millions(module: nn.Module) -> float:
    """Return the number of parameters, frozen ones too, in millions."""
    return sum(p.numel() for p in module.parameters()) / 1e6


def gflops(detector: Detector, side: int) -> float:
    """Return the 10^9 multiply-adds (as fvcore and papers count) of detecting in one image.

    The image is noise, which gives as many proposals as the config allows; the mask head counts
    for the regions that a trained detector finds in it, mostly few.

    Args:
        detector: On any device.
        side: Of the square image, in pixels.
    """
    training = detector.training
    detector.eval()
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        analysis = FlopCountAnalysis(detector, [{"image": image.to(detector.device)}])
        analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_flops)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        total = float(analysis.tracer_warnings("none").total())
    detector.train(training)
    return total / 1e9


def _attention_flops(inputs: list[Any], outputs: list[Any]) -> int:
    """Count both products of attention: queries (.., N, D), keys (.., M, D): 2 N M D a head."""
    del outputs
    *batch, queries, width = inputs[0].type().sizes()
    keys: int = inputs[1].type().sizes()[-2]
    product: int = 2 * math.prod(batch) * queries * keys * width
    return product
