"""From verdicts on images to percentages, and the file that keeps them image by image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from backbones.base.wording import first_of
from benchmarks.by_image.classified import PREDICTIONS

# Fewer classes than this leave nothing to be wrong about within the first five.
_TOP = 5


@dataclass(frozen=True)
class ClassifierOutput:
    """What a classifier said of each test image.

    Attributes:
        predicted: (N,) int64 class that comes first.
        rank: (N,) int64 place of the true class, 0 for the first.
    """

    predicted: Tensor
    rank: Tensor


@dataclass(frozen=True)
class ClassificationScores:
    """Percentages over test images, 0 to 100.

    Attributes:
        top1: Of images whose class comes first.
        top5: Of images whose class is among the first five; None with fewer than five classes.
        mean_class: Mean over classes of each class's top1, which some data sets ask for.
        per_class: The top1 of each class that has test images.
    """

    top1: float
    top5: float | None
    mean_class: float
    per_class: Mapping[int, float]


def judge(scores: Tensor, truth: Tensor) -> ClassifierOutput:
    """Return the verdict of scores; of equal scores the lower class comes first.

    Args:
        scores: (N, C), without NaN.
        truth: (N,) classes.
    """
    own = scores.gather(1, truth[:, None])
    classes = torch.arange(scores.shape[1], device=scores.device)
    before = (scores > own) | ((scores == own) & (classes < truth[:, None]))
    best = scores == scores.max(dim=1, keepdim=True).values
    predicted = torch.where(best, classes, scores.shape[1]).min(dim=1).values
    return ClassifierOutput(predicted.cpu(), before.sum(dim=1).cpu())


def score(verdict: ClassifierOutput, truth: Tensor, num_classes: int) -> ClassificationScores:
    """Return what a verdict comes to.

    Args:
        verdict: On N images.
        truth: (N,) int64 classes.
        num_classes: Of the data set.
    """
    first = (verdict.rank == 0).double()
    counts = torch.bincount(truth, minlength=num_classes)
    right = torch.bincount(truth, weights=first, minlength=num_classes)
    per_class = {
        c: 100.0 * float(right[c] / counts[c]) for c in range(num_classes) if int(counts[c])
    }
    top5 = 100.0 * float((verdict.rank < _TOP).double().mean()) if num_classes >= _TOP else None
    return ClassificationScores(
        top1=100.0 * float(first.mean()),
        top5=top5,
        mean_class=sum(per_class.values()) / len(per_class),
        per_class=per_class,
    )


def about_top5(num_classes: int) -> list[str]:
    """Return a sentence where the data have too few classes for a top-5."""
    if num_classes >= _TOP:
        return []
    return [f"top-5 needs five classes, and these data have {num_classes}"]


def about_unreadable(reasons: Sequence[str], what: str) -> list[str]:
    """Return a sentence where images were left out.

    Args:
        reasons: Why each of them cannot be read.
        what: Split or use of the images, such as "test".
    """
    if not reasons:
        return []
    return [
        f"left out {len(reasons)} unreadable {what} images: {first_of(reasons, separator='; ')}"
    ]


def write_predictions(
    path: Path,
    indices: npt.NDArray[np.int64],
    truth: Tensor,
    verdicts: Mapping[str, ClassifierOutput],
    headline: str,
    real: npt.NDArray[np.int8] | None = None,
) -> None:
    """Write a compressed ``.npz``, atomically; equal predictions give equal bytes.

    It holds, image by image, ``indices`` (numbers in the sorted split), ``labels``, the headline's
    ``predicted`` and ``rank`` (place of the true class, 0 for the first, at most 255),
    ``rank/VARIANT`` of everything that was tried, and ``real`` where the data have such labels.

    Args:
        path: The file.
        indices: (N,) numbers of the test images in their split.
        truth: (N,) classes.
        verdicts: By variant.
        headline: The variant that the metrics report.
        real: (N,) its verdict on reassessed labels, see ``real_labels.judge_real``.

    Raises:
        PreflightError: The file cannot be written.
    """
    columns: dict[str, Any] = {
        "indices": indices,
        "labels": truth.numpy().astype(np.int32),
        "headline": np.array(headline),
        "predicted": verdicts[headline].predicted.numpy().astype(np.int32),
        "rank": _small(verdicts[headline].rank),
        **{f"rank/{name}": _small(verdict.rank) for name, verdict in verdicts.items()},
    }
    if real is not None:
        columns["real"] = real
    PREDICTIONS.write(path, columns)


def _small(rank: Tensor) -> npt.NDArray[np.uint8]:
    """Return (N,) ranks as uint8, (N,), 255 for any that is larger."""
    found: npt.NDArray[np.uint8] = rank.clamp(max=255).numpy().astype(np.uint8)
    return found
