"""Detections of torchvision's models, saved with ``torch.save``.

The file holds what ``CocoEvaluator.update`` of torchvision's references is given: a dict from image
id to a model's output, itself a dict of ``boxes`` (N, 4) xyxy pixels, ``labels`` (N,) category ids,
``scores`` (N,) and, for masks, ``masks`` (N, 1, H, W) probabilities.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as rle_tools
import torch
from torch import Tensor

from backbones.base.errors import PreflightError
from backbones.base.wording import quoted
from backbones.weights.pickled import read_pickle
from detection.scoring.results.reading import ResultColumns

# What torchvision's references take for a mask (references/detection/coco_eval.py).
_THRESHOLD = 0.5
_PARTS = {"boxes": 2, "labels": 1, "scores": 1}
_FORMAT = (
    "a file of torchvision's detections is a dict {image_id: {boxes, labels, scores[, masks]}} "
    "written by torch.save"
)


def read_torch_results(path: Path, *, boxes_only: bool = False) -> ResultColumns:
    """Read a file of torchvision's detections.

    Args:
        path: The file.
        boxes_only: Leave masks out.

    Raises:
        PreflightError: It cannot be read, or holds something else; one sentence with counts.
    """
    content = read_pickle(path)
    if not isinstance(content, Mapping) or not content:
        raise PreflightError(f"{path} holds no dict of detections; {_FORMAT}.")
    wrong = {key: fault for key, value in content.items() if (fault := _fault(key, value))}
    if wrong:
        key, fault = next(iter(wrong.items()))
        raise PreflightError(
            f"{path}: {len(wrong):,} of {len(content):,} entries are not the detections of an "
            f"image (entry {quoted(key)} {fault}); {_FORMAT}."
        )
    parts = [_columns(int(key), value, boxes_only) for key, value in content.items()]
    found = ResultColumns(
        image_ids=np.concatenate([part.image_ids for part in parts]),
        category_ids=np.concatenate([part.category_ids for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        boxes=np.concatenate([part.boxes for part in parts]),
        masks=[mask for part in parts for mask in part.masks],
        mask_sizes=np.concatenate([part.mask_sizes for part in parts]),
    )
    if not len(found):
        raise PreflightError(f"{path} holds no detection.")
    return found


def _fault(key: Any, value: Any) -> str:
    """Say what is wrong with an entry, empty for a sound one."""
    if not isinstance(key, int):
        return "has no whole number as its image id"
    if not isinstance(value, Mapping):
        return "is no dict"
    return next((fault for name in _PARTS if (fault := _fault_of_part(name, value))), "") or (
        _fault_of_masks(value.get("masks"), len(value["boxes"]))
    )


def _fault_of_part(name: str, value: Mapping[str, Any]) -> str:
    part, rank = value.get(name), _PARTS[name]
    if not isinstance(part, Tensor) or part.ndim != rank:
        return f"has no tensor {name} of {rank} dimension{'s' * (rank > 1)}"
    if len(part) != len(value["boxes"]):
        return f"has {len(part)} {name} and {len(value['boxes'])} boxes"
    if not bool(torch.isfinite(part).all()):
        return f"has NaN or infinity in {name}"
    return "has boxes that are not four numbers" if rank > 1 and part.shape[1] != 4 else ""


def _fault_of_masks(masks: Any, count: int) -> str:
    if masks is None or (isinstance(masks, Tensor) and masks.ndim >= 3 and len(masks) == count):
        return ""
    return "has not one mask for each box"


def _columns(image_id: int, value: Mapping[str, Tensor], boxes_only: bool) -> ResultColumns:
    """Return the N detections of an image."""
    count = len(value["boxes"])
    boxes = value["boxes"].clone()
    # In the tensors' own precision, as torchvision's references convert them.
    boxes[:, 2:] -= boxes[:, :2]
    masks = None if boxes_only else value.get("masks")
    drawn = [] if masks is None else [_encoded(mask) for mask in masks]
    return ResultColumns(
        image_ids=np.full(count, image_id, dtype=np.int64),
        category_ids=value["labels"].numpy().astype(np.int64),
        scores=value["scores"].double().numpy(),
        boxes=boxes.double().numpy(),
        masks=[rle["counts"] for rle in drawn] if drawn else [None] * count,
        mask_sizes=np.array([rle["size"] for rle in drawn] or [(-1, -1)] * count, np.int64).reshape(
            -1, 2
        ),
    )


def _encoded(mask: Tensor) -> dict[str, Any]:
    """Return the run lengths of a mask of probabilities, (1, H, W) or (H, W)."""
    pixels = (mask.reshape(mask.shape[-2:]) > _THRESHOLD).numpy().astype(np.uint8)
    rle: dict[str, Any] = rle_tools.encode(np.asfortranarray(pixels))
    return rle
