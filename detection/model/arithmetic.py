"""How much a detector computes beside its backbone, from its recipe alone.

For plans, which have no network at hand; ``detection.model.cost`` counts a built detector.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

# Both from detectron2 ``model_zoo/configs/common/models/mask_rcnn_fpn.py``. Side of what is pooled
# from a region, for the box and the mask head.
BOX_BINS, MASK_BINS = 7, 14
# Of the sampled regions, those that hold an object, at most; the mask head sees these alone.
_WITH_OBJECT = 0.25
_CASCADE_HEADS = 3
_KERNEL = 3 * 3


def head_multiply_adds(model: Mapping[str, Any], img_size: int) -> float:
    """Return about how many multiply-adds neck and heads need for a training image, forward.

    Counted are the neck's last convolutions, the proposal head's hidden ones, and all layers of box
    and mask head but the predictors.

    Args:
        model: The values of a ``ModelConfig``.
        img_size: Side of the square image, in pixels.
    """
    channels = model["channels"]
    convolution = _KERNEL * channels**2  # for one position
    levels = {*model["rpn_levels"], *model["roi_levels"]}
    neck = sum(_positions(img_size, level) for level in levels) * convolution
    anchors = sum(_positions(img_size, level) for level in model["rpn_levels"])
    proposals = anchors * model["rpn_convs"] * convolution
    widths = [BOX_BINS**2 * channels, *model["box_fcs"]]
    box = model["box_convs"] * BOX_BINS**2 * convolution
    box += sum(before * after for before, after in pairwise(widths))
    if model["detector"].startswith("cascade"):
        box *= _CASCADE_HEADS
    # A position of the deconvolution, 2x2 with stride 2, makes four.
    mask = MASK_BINS**2 * (model["mask_convs"] * convolution + 4 * channels**2)
    return float(neck + proposals + model["roi_samples"] * (box + _WITH_OBJECT * mask))


def _positions(img_size: int, level: int) -> int:
    side = -(-img_size // (1 << level))
    return side * side
