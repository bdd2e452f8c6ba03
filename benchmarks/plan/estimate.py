"""What runs will cost: from measured rates where there are any, else from FLOPs.

A guess from FLOPs is an order of magnitude, meant to tell hours from weeks before a first run has
been measured: it counts the backbone, on every view of an image, and a detector's neck and heads.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Literal

from backbones.catalog import TIMM, get_spec
from backbones.spec import BackboneSpec
from benchmarks.plan.memory import views_of
from benchmarks.store.record import RunRecord
from benchmarks.store.spec import RunRequest, RunSpec
from benchmarks.store.timing import OVERALL
from benchmarks.suites import find_task

Basis = Literal["measured", "FLOPs"]

# Multiply-adds of a transformer block are 12 D^2 a token (Kaplan et al. 2020, table 1), those of a
# ResNet's bottleneck 17/16 C^2 a position (He et al. 2016, table 1: 1x1, 3x3, 1x1 with C/4 inside).
_BLOCK, _BOTTLENECK = 12.0, 17 / 16
_BOTTLENECKS_PER_STAGE = 4
# A backward pass costs two forward passes (Kaplan et al. 2020, section 2.1).
_TRAINED, _FROZEN = 3.0, 1.0
# Assumed while nothing has been measured: multiply-adds a second of one GPU, about a tenth of an
# A100's peak for bfloat16 (NVIDIA A100 datasheet: 312 TFLOP/s), and of one process on one CPU core,
# which is what small networks got here in training (5e9 to 1.1e10 with a detector, 2e9 to 1.6e10
# without).
ASSUMED_GPU, ASSUMED_CPU = 15e12, 1e10


@dataclass(frozen=True)
class Estimate:
    """What a run costs.

    Attributes:
        device_seconds: Seconds of one GPU, or of one process without GPUs.
        basis: Source of the estimate.
    """

    device_seconds: float
    basis: Basis


class Estimator:
    """Knows the rates of the runs that were measured.

    Args:
        records: Records of those runs.
        gpu: Whether the runs to come get GPUs.
    """

    def __init__(self, records: Sequence[RunRecord], gpu: bool) -> None:
        self._rates: dict[tuple[str, str], float] = {}
        work = []
        for record in records:
            # Tasks on frozen features have only the rate of their extraction; a training that was
            # too short to be timed has none, however fast its test was.
            rate = _rate(record.cost)
            if not rate:
                continue
            alone = rate / _processes(record.environment)
            self._rates[record.spec.backbone, record.labels.recipe] = alone
            spec = record.spec
            each = _multiply_adds(spec, None)
            if each is not None:
                work.append(alone * each)
        self.sustained = median(work) if work else ASSUMED_GPU if gpu else ASSUMED_CPU

    def __call__(self, request: RunRequest) -> Estimate | None:
        """Return what a run costs, None where nothing is known of it."""
        spec = request.spec
        rate = self._rates.get((spec.backbone, request.recipe))
        if rate:
            return Estimate(request.num_images / rate, "measured")
        each = _multiply_adds(spec, request.plugins)
        if each is None:
            return None
        return Estimate(request.num_images * each / self.sustained, "FLOPs")


def _rate(cost: Mapping[str, float | None]) -> float | None:
    """Return the images per second of a whole run, with loading, None where it was not timed."""
    for rate in ("images_per_second_train", "images_per_second_test"):
        if rate in cost:
            # A training of few steps has no rate over all of them.
            return cost.get(f"{rate}{OVERALL}") or cost[rate]
    return None


def multiply_adds(spec: BackboneSpec, img_size: int) -> float:
    """Return about how many multiply-adds a backbone needs for one image, forward.

    In a hierarchy a stage halves the side and doubles the channels, so that a block costs the same
    everywhere; one whose layers are as many as its stages is taken for a ResNet.

    Args:
        spec: The backbone.
        img_size: Side of the image, in pixels.
    """
    positions = (img_size / spec.strides[0]) ** 2
    width = spec.channels[0]
    if spec.layout == "plain":
        each = _BLOCK * width**2 * positions + 2 * positions**2 * width
        return spec.num_layers * each
    if spec.num_layers == len(spec.strides):
        blocks = _BOTTLENECKS_PER_STAGE * spec.num_layers
        return blocks * _BOTTLENECK * width**2 * positions
    return spec.num_layers * _BLOCK * width**2 * positions


def _img_size(recipe: Mapping[str, Any]) -> int | None:
    size = recipe.get("data", {}).get("img_size")
    return size if isinstance(size, int) else None


def image_work(spec: RunSpec, plugins: Path | None = None) -> tuple[float, float] | None:
    """Return a run's multiply-adds for an image, forward, and how many passes it makes of them.

    Args:
        spec: Of the run.
        plugins: Folder of additional backbones.

    Returns:
        Both; None where they are unknown.
    """
    img_size, task = _img_size(spec.recipe), find_task(spec.task)
    if img_size is None or task is None:
        return None
    backbone = known_backbone(spec.backbone, plugins)
    if backbone is None:
        return None
    try:
        forward = multiply_adds(backbone, img_size) + task.multiply_adds(spec.recipe, img_size)
    except KeyError:  # a record's recipe may be older than some of these values
        return None
    return forward, _TRAINED if task.trains else _FROZEN


def _multiply_adds(spec: RunSpec, plugins: Path | None) -> float | None:
    """Return the multiply-adds that a run spends on one image, None where they are unknown."""
    work = image_work(spec, plugins)
    if work is None:
        return None
    views = views_of(spec.recipe)
    # Where several views are trained on, a second network sees two of them, forward.
    second = 2 * _FROZEN if views > 1 else 0.0
    return work[0] * (views * work[1] + second)


@cache
def known_backbone(name: str, plugins: Path | None = None) -> BackboneSpec | None:
    """Return a backbone's name card where that takes no time and is possible, else None."""
    if name.startswith(TIMM) and "torch" not in sys.modules:
        return None
    try:
        return get_spec(name, plugins)
    except Exception:  # a record's backbone may be of a plug-in that is not given now
        return None


def _processes(environment: Mapping[str, Any]) -> int:
    """Return how many processes shared the work of a recorded run."""
    given = environment.get("processes") or environment.get("slurm", {}).get("processes") or 1
    return max(1, int(given))
