"""A detector over a split: detections kept, COCO's metrics computed, speed measured."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycocotools.mask as rle_tools
import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from backbones.base import distributed
from backbones.base.errors import StoppedError, UserError
from backbones.base.monitor import Monitor, Progress
from backbones.base.reading import reading
from detection.config import EvaluationConfig
from detection.data.dataset import CocoData, Truth, load_truth
from detection.data.loader import Sample, evaluation_batches
from detection.model.lazy_masks import LazyMasks
from detection.scoring.cocoeval import CocoScores, get_engine, score
from detection.scoring.detections import (
    DETECTIONS_FILE,
    Detections,
    ImageDetections,
    collect,
    write_detections,
)
from detection.scoring.matches import MATCHES_FILE, MOST_DETECTIONS, write_matches
from detection.scoring.matching import match

# Of masks drawn at full size at a time: 16 MiB as bytes, several times that while they are drawn.
_PIXELS_AT_ONCE = 16 * 2**20


@dataclass(frozen=True)
class EvaluationOptions:
    """What does not change the numbers, or only for a quick look.

    Attributes:
        evaluator: "hotcoco" or "pycocotools".
        limit_images: Evaluate this many images only.
        num_workers: Loader processes.
    """

    evaluator: str = "hotcoco"
    limit_images: int | None = None
    num_workers: int = 0


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; the same on every process.

    Attributes:
        metrics: As ``detection.scoring.cocoeval.CocoScores``.
        per_class: As ``detection.scoring.cocoeval.CocoScores``.
        evaluator: Engine and version.
        detections_file: All detections (``detection.scoring.detections.read_detections``).
        matches_file: How they fared (``detection.scoring.matches.read_matches``).
        images_per_second: Of all processes, loading included, the first batch left out.
        num_images: Evaluated.
    """

    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    evaluator: str
    detections_file: Path
    matches_file: Path
    images_per_second: float
    num_images: int


def evaluate(
    model: nn.Module,
    data: CocoData,
    config: EvaluationConfig,
    out_dir: Path,
    monitor: Monitor,
    options: EvaluationOptions = EvaluationOptions(),
) -> Evaluation:
    """Run a detector over ``config.split`` and score it. Every process has to call this.

    Args:
        model: A detectron2 detector: list of dicts in, list of dicts with ``instances`` out.
        data: The data set.
        config: Resolved.
        out_dir: Gets ``detections.npz`` and ``matches.npz``.
        monitor: Hears of progress, may stop.
        options: See there.

    Raises:
        UserError: The evaluator is unknown, or the detections cannot be scored.
        PreflightError: Annotations or images cannot be used, or the disk not be written.
        StoppedError: The monitor asked to stop; nothing was written.
    """
    get_engine(options.evaluator)
    truth = _truth(data, config, options)

    def judge(detections: Detections) -> CocoScores:
        most = max(MOST_DETECTIONS, config.detections_per_image)
        scores = score(truth, detections, options.evaluator, most)
        write_detections(out_dir / DETECTIONS_FILE, detections)
        write_matches(out_dir / MATCHES_FILE, match(truth, detections, most))
        return scores

    scores, rate = _detect_and_judge(model, truth, config, monitor, options, judge)
    return Evaluation(
        metrics=scores.metrics,
        per_class=scores.per_class,
        evaluator=scores.evaluator,
        detections_file=out_dir / DETECTIONS_FILE,
        matches_file=out_dir / MATCHES_FILE,
        images_per_second=rate,
        num_images=len(truth.images),
    )


def look(
    model: nn.Module,
    data: CocoData,
    config: EvaluationConfig,
    monitor: Monitor,
    options: EvaluationOptions = EvaluationOptions(),
) -> CocoScores:
    """Score a detector as ``evaluate`` does, and write nothing. Every process has to call this.

    Args:
        model: As in ``evaluate``.
        data: The data set.
        config: Resolved.
        monitor: Hears of progress, may stop.
        options: See there.

    Raises:
        UserError: As ``evaluate``.
        PreflightError: Annotations or images cannot be used.
        StoppedError: The monitor asked to stop.
    """
    truth = _truth(data, config, options)

    def judge(detections: Detections) -> CocoScores:
        most = max(MOST_DETECTIONS, config.detections_per_image)
        return score(truth, detections, options.evaluator, most)

    return _detect_and_judge(model, truth, config, monitor, options, judge)[0]


def _truth(data: CocoData, config: EvaluationConfig, options: EvaluationOptions) -> Truth:
    get_engine(options.evaluator)
    return load_truth(data, config.split, limit_images=options.limit_images)


def _detect_and_judge(
    model: nn.Module,
    truth: Truth,
    config: EvaluationConfig,
    monitor: Monitor,
    options: EvaluationOptions,
    judge: Callable[[Detections], CocoScores],
) -> tuple[CocoScores, float]:
    """Return what the first process found by ``judge``, and images per second of all."""
    parts = distributed.gather(
        detect(model, truth.images, config, monitor, num_workers=options.num_workers)
    )
    outcome: CocoScores | UserError | None = None
    if distributed.rank() == 0:
        try:
            outcome = judge(collect([image for images, _ in parts for image in images]))
        except UserError as error:
            outcome = error
    # A mistake on the first process has to end all of them, not leave them waiting.
    scores = distributed.gather(outcome)[0]
    if not isinstance(scores, CocoScores):
        raise scores or RuntimeError("The first process computed no scores.")
    return scores, sum(rate for _, rate in parts)


def detect(
    model: nn.Module,
    images: Sequence[Sample],
    config: EvaluationConfig,
    monitor: Monitor,
    *,
    num_workers: int = 0,
) -> tuple[list[ImageDetections], float]:
    """Run the detector over this process's share of images.

    Args:
        model: As in ``evaluate``; its mode is put back afterwards.
        images: Dataset dicts of all processes.
        config: Resolved.
        monitor: Hears of progress, may stop.
        num_workers: Loader processes.

    Returns:
        The detections, and images per second after the first batch.

    Raises:
        StoppedError: The monitor of any process asked to stop.
    """
    share = distributed.world_size()
    batches = evaluation_batches(
        images, config, rank=distributed.rank(), world_size=share, num_workers=num_workers
    )
    # All processes take the same number of turns, so that they can agree to stop in each.
    largest_share = math.ceil(len(images) / share)
    num_turns = math.ceil(largest_share / config.batch_size_per_device)
    found: list[ImageDetections] = []
    clock = _Clock()
    with _evaluating(model):
        for _ in range(num_turns):
            if distributed.any_rank(monitor.should_stop()):
                raise StoppedError(
                    f"Stopped in the evaluation after {len(found) * share} of {len(images)} "
                    "images; it starts over with the next run."
                )
            batch = next(batches, [])
            found += _detected(model, batch)
            clock.tick(len(found))
            done = min(len(found) * share, len(images))
            monitor.progress(Progress("evaluate", done, len(images), clock.rate * share))
    return found, clock.rate


def detect_batch(model: nn.Module, batch: Sequence[Sample]) -> list[ImageDetections]:
    """Return the detections in a batch of mapped test images; the model's mode is put back."""
    with _evaluating(model):
        return _detected(model, batch)


def _detected(model: nn.Module, batch: Sequence[Sample]) -> list[ImageDetections]:
    outputs = model(batch) if batch else []
    return [_keep(s, o["instances"]) for s, o in zip(batch, outputs, strict=True)]


class _Clock:
    """Images per second since the first tick, whose batch pays for all warm-up."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._first: tuple[float, int] | None = None
        self.rate = 0.0

    def tick(self, num_images: int) -> None:
        now = time.perf_counter()
        if self._first is None:
            self._first = (now, num_images)
            self.rate = num_images / max(now - self._started, 1e-9)
        elif num_images > self._first[1]:
            self.rate = (num_images - self._first[1]) / max(now - self._first[0], 1e-9)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Hold the model in evaluation mode without gradients."""
    was_training = model.training
    model.eval()
    try:
        # Not inference_mode: what a module caches here must still serve training.
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _keep(sample: Sample, instances: Instances) -> ImageDetections:
    """Return a model's output for one image, in pixels of its file, off the device."""
    masks = None
    if instances.has("pred_masks"):
        file = sample.get("file_name") or f"image {sample['image_id']}"
        with reading(f"the masks that were predicted for {file}"):
            masks = _encode(instances.pred_masks)
    return ImageDetections(
        image_id=sample["image_id"],
        height=sample["height"],
        width=sample["width"],
        boxes=instances.pred_boxes.tensor.float().cpu().numpy(),
        scores=instances.scores.float().cpu().numpy(),
        classes=instances.pred_classes.cpu().numpy().astype(np.int32),
        masks=masks,
    )


def _encode(masks: Tensor | LazyMasks) -> list[bytes]:
    """Return the compressed run lengths of (N, h, w) masks, drawing only a few at a time."""
    found: list[bytes] = []
    area = max(1, math.prod(masks.shape[1:]))
    at_once = max(1, _PIXELS_AT_ONCE // area)
    for start in range(0, len(masks), at_once):
        drawn = masks[start : start + at_once]
        drawn = drawn if isinstance(drawn, Tensor) else drawn.draw()
        # COCO counts along columns, so the encoder wants (h, w, N) in Fortran's order.
        columns = drawn.to("cpu", torch.uint8).permute(0, 2, 1).contiguous().numpy()
        found += [rle["counts"] for rle in rle_tools.encode(columns.transpose(2, 1, 0))]
    return found
