"""The work of the task regions: pooled boxes, readers, scores, pictures."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from backbones.base import devices
from backbones.base.errors import PreflightError
from backbones.base.monitor import Monitor, Progress
from backbones.timing.alone import time_alone
from backbones.timing.conditions import Rates
from benchmarks.annotated.task import facts_of
from benchmarks.data.coco import open_coco
from benchmarks.labelled.features.extract import Frozen, freeze
from benchmarks.task import TaskInputs, TaskResult
from benchmarks.tasks.regions.extract import PooledBoxes, RegionExtractor
from benchmarks.tasks.regions.pictures import draw_confusion, draw_mistakes
from benchmarks.tasks.regions.readers import (
    ClassifiedBoxes,
    LocalizedBoxes,
    classify_boxes,
    localize_boxes,
)
from benchmarks.tasks.regions.recipes import RegionProbeConfig
from benchmarks.tasks.regions.results import RESULTS_FILE, RegionResults, write_results
from detection.data.dataset import has_objects, load_truth
from detection.data.facts import checked

CONFUSION_FILE = "confusion.png"
MISTAKES_FILE = "mistakes.png"
_READERS = ("k-NN and linear", "boxes", "pictures")


def run_regions(inputs: TaskInputs, monitor: Monitor) -> TaskResult:
    """Pool the annotated boxes of both splits and read them.

    Raises:
        PreflightError: Weights, images or disk cannot serve.
        StoppedError: The monitor asked to stop; pooled boxes are kept.
        UserError: The backbone cannot see images of the recipe's size.
    """
    start = time.perf_counter()
    config: RegionProbeConfig = inputs.config
    data = checked(open_coco(inputs.data), inputs.cache)
    splits = {name: load_truth(data, name) for name in ("train", "val")}
    classes = splits["val"].class_names
    images = {name: _chosen(truth.images, config, inputs, name) for name, truth in splits.items()}
    frozen = freeze(inputs.backbone, inputs.checkpoint, config.images.max_size, inputs.seed)
    monitor.say(frozen.coverage.sentence())
    fingerprint = facts_of(inputs.data, inputs.cache).fingerprint
    extractor = RegionExtractor(frozen, config, fingerprint, inputs.cache, inputs.seed)
    most = config.boxes.max_regression_boxes
    train, val = (extractor.pool(images[name], name, most, monitor) for name in ("train", "val"))
    context = (inputs.seed, frozen.device)
    monitor.progress(Progress(_READERS[0], 0, len(_READERS)))
    classified = classify_boxes(train, val, len(classes), config.heads, context)
    monitor.progress(Progress(_READERS[1], 1, len(_READERS)))
    localized = localize_boxes(train, val, config.heads, context)
    monitor.progress(Progress(_READERS[2], 2, len(_READERS)))
    results = _results(images["val"], val, classified, localized)
    files = [inputs.out_dir / name for name in (RESULTS_FILE, CONFUSION_FILE, MISTAKES_FILE)]
    write_results(files[0], results)
    draw_confusion(files[1], results, classes)
    draw_mistakes(files[2], images["val"], val, results, classes)
    ones = np.ones((1, len(results.image_ids)), dtype=np.int32)
    metrics = {name: _number(values[0]) for name, values in results.metrics(ones).items()}
    seen, seconds = extractor.images_seen, extractor.seconds
    return TaskResult(
        metrics=metrics,
        per_class={classes[label]: dict(values) for label, values in results.per_class().items()},
        cost={
            "images_per_second_test": seen / seconds if seen else None,
            "parameters_millions": frozen.parameters_millions,
            "peak_memory_gib": devices.peak_memory_gib(),
            "seconds": time.perf_counter() - start,
        },
        coverage=frozen.coverage.sentence(),
        details=_details(frozen, config, train, val, (classified, localized)),
        files=tuple(files),
        warnings=_warnings(images, splits, config),
        unmeasured="no object of this kind",
        rates=_rates(extractor, images["val"], monitor) if inputs.timed else Rates(),
    )


def _rates(extractor: RegionExtractor, images: Sequence[dict[str, Any]], monitor: Monitor) -> Rates:
    """Return the speed at which test images are pooled, timed alone."""
    work = {"images_per_second_test": lambda: extractor.rehearse(images)}
    return time_alone(work, monitor)


def _chosen(
    images: Sequence[dict[str, Any]], config: RegionProbeConfig, inputs: TaskInputs, split: str
) -> list[dict[str, Any]]:
    """Return the images of a split that have objects, as many as recipe and command allow.

    Raises:
        PreflightError: No image has an object.
    """
    found = [image for image in images if has_objects(image)]
    most = config.images.max_train_images if split == "train" else 0
    limits = [limit for limit in (most, inputs.limit_images) if limit]
    count = min([len(found), *limits])
    if not count:
        raise PreflightError(
            f"No {split} image of {inputs.data.name} has an object to probe; annotate some, or "
            "give other data with --data."
        )

    def rank(image: dict[str, Any]) -> bytes:
        return hashlib.sha256(f"regions {inputs.seed} {image['image_id']}".encode()).digest()

    kept = {image["image_id"] for image in sorted(found, key=rank)[:count]}
    return [image for image in found if image["image_id"] in kept]


def _results(
    images: Sequence[Mapping[str, Any]],
    val: PooledBoxes,
    classified: ClassifiedBoxes,
    localized: LocalizedBoxes,
) -> RegionResults:
    right = (classified.background.rank == 0).numpy()
    count = len(val.objects)
    columns: dict[str, npt.NDArray[Any]] = {
        "image_ids": np.array([image["image_id"] for image in images], dtype=np.int64),
        "images": val.images.astype(np.int32),
        "labels": val.labels.astype(np.int32),
        "sizes": val.sizes.astype(np.int8),
        "linear": (classified.linear.rank == 0).numpy(),
        "knn": (classified.knn.rank == 0).numpy(),
        "predicted": classified.linear.predicted.numpy().astype(np.int32),
        "with_background": right[:count],
        "background_images": val.background_images.astype(np.int32),
        "background": right[count:],
        "copy_images": val.images[val.copy_objects].astype(np.int32),
        "copy_sizes": val.sizes[val.copy_objects].astype(np.int8),
        "copy_labels": val.labels[val.copy_objects].astype(np.int32),
        "iou": localized.iou.astype(np.float32),
    }
    return RegionResults(columns)


def _details(
    frozen: Frozen,
    config: RegionProbeConfig,
    train: PooledBoxes,
    val: PooledBoxes,
    readers: tuple[ClassifiedBoxes, LocalizedBoxes],
) -> dict[str, Any]:
    """Return what the numbers rest on."""
    classified, localized = readers
    counts = np.bincount(val.labels)
    return {
        "num_train_boxes": len(train.objects),
        "num_test_boxes": len(val.objects),
        "num_background_boxes": len(val.background),
        "features": train.objects.shape[1],
        "strides": list(frozen.backbone.strides),
        "chance_top1": 100 * float(counts.max() / counts.sum()),
        "iou_before": 100 * float(localized.before.mean()),
        "linear_l2": classified.l2,
        "linear_held_out_top1": {f"{k:g}": v for k, v in classified.held_out_top1.items()},
        "box_l2": localized.l2,
        "box_held_out_iou": {f"{k:g}": v for k, v in localized.held_out_iou.items()},
        "k": min(config.heads.k, len(train.objects)),
        "device": str(frozen.device),
    }


def _warnings(
    images: Mapping[str, Sequence[Any]], splits: Mapping[str, Any], config: RegionProbeConfig
) -> tuple[str, ...]:
    """Return what a reader of the numbers should know."""
    total = sum(has_objects(image) for image in splits["train"].images)
    used = len(images["train"])
    if used < total and config.images.max_train_images:
        return (f"{used:,} of {total:,} training images with objects were read",)
    return ()


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
