"""Whether a contributed record can be what it says: its protocol, its numbers, its cost.

``reading`` has checked form and checksums. These checks read the content with suspicion: recipe
values behind a protocol's name, metrics behind intervals, seconds behind images. They find mistakes
and careless changes; only doing a run again proves it.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from backbones.base.errors import UserError
from backbones.base.sections import as_plain
from benchmarks.by_image.resamples import Resamples, parse_resamples
from benchmarks.leaderboard.bundles.writing import Packed
from benchmarks.overrides import apply_overrides, base_protocol, leaves_of
from benchmarks.plan.estimate import image_work, known_backbone
from benchmarks.store.record import FullRecord
from benchmarks.suites import find_measurement, find_task
from benchmarks.task import EXTERNAL, PRETRAIN, Task
from detection.small_sets import without_start, without_steps

# Resamples are kept as float32, their plain values as float64.
_SAME = 1e-6
# The mean over choices of images lies this many of their standard deviations around the value.
_SPREADS = 3.0
# Multiply-adds a second that no device of today reaches: an NVIDIA B200's dense bfloat16 peak
# (datasheet: 2.25e15 FLOP/s, two a multiply-add), and of one CPU core two 512-bit FMA units at
# 6 GHz (32 multiply-adds a cycle in float32, doubled for bfloat16 tiles).
_MOST_GPU, _MOST_CORE = 1.2e15, 4e11
# Images may not take less than this part of the time that they need at the stated speed.
_NEAR = 3.0
# What an estimate from a network's shape may differ by from operations that were counted.
_COUNTED = 8.0
_ORDERED = (("AP", "AP50"), ("AP", "AR100"), ("AP75", "AP50"), ("AR1", "AR10"), ("AR10", "AR100"))


def faults_of(packed: Packed) -> list[str]:
    """Return what a record of a bundle cannot be, one sentence each; empty for a sound one.

    Args:
        packed: The record with its resamples, as ``read_bundle`` found them valid.
    """
    record = packed.record
    if record.status != "done":
        return ["it failed, so it has no numbers to share"]
    if record.spec.task == PRETRAIN:
        return []
    return [*_metrics(record), *_images(packed), *_protocol(record), *_time(record), *_work(record)]


def _metrics(record: FullRecord) -> Iterator[str]:
    known = find_measurement(record.spec.task)
    if known is None:
        yield f"this version has no task {record.spec.task}"
        return
    if record.spec.task_version != known.version:
        yield f"it is of version {record.spec.task_version} of {known.name}, not {known.version}"
    if record.headline != known.headline or record.value(record.headline) is None:
        yield f"it has no value of {known.headline}"
    for name in record.metrics:
        if name not in known.metrics:
            yield f"{known.name} has no metric {name}"
    yield from _percent(record)


def _percent(record: FullRecord) -> Iterator[str]:
    """Yield percentages outside 0 to 100, and those that another one bounds."""
    for name, metric in record.metrics.items():
        value = metric.value
        if value is not None and metric.unit == "percent" and not -_SAME <= value <= 100 + _SAME:
            yield f"{name} is {value:g} percent"
    for kind in ("box", "mask"):
        for low, high in _ORDERED:
            small, large = record.value(f"{low}{kind}"), record.value(f"{high}{kind}")
            if small is not None and large is not None and small > large + _SAME:
                yield f"{low}{kind} is {small:.2f}, above {high}{kind} of {large:.2f}"


def _images(packed: Packed) -> Iterator[str]:
    record = packed.record
    known = find_measurement(record.spec.task)
    if known is None or known.image_file is None:
        return
    if packed.resamples is None:
        yield "it has no resamples of its test images, so it would have no interval"
        return
    resamples = parse_resamples(packed.resamples)
    for name, plain in resamples.plain.items():
        value = record.value(name)
        if value is None or abs(value - plain) > _SAME:
            yield f"{name} is {value}, but its results by image come to {plain:.4f}"
        elif _is_apart(resamples, name):
            yield f"{name} is {plain:.2f}, far from what choices of its test images give"


def _is_apart(resamples: Resamples, name: str) -> bool:
    draws = resamples.values[name]
    draws = draws[np.isfinite(draws)]
    if len(draws) < 2:
        return False
    return bool(abs(draws.mean() - resamples.plain[name]) > _SPREADS * draws.std() + _SAME)


def _protocol(record: FullRecord) -> Iterator[str]:
    stated = str(record.spec.recipe.get("protocol", ""))
    if stated != record.labels.protocol:
        yield f"its protocol is {record.labels.protocol}, but its recipe has {stated}"
        return
    task = find_task(record.spec.task)
    if task is None or record.spec.task == EXTERNAL:
        return
    try:
        yield from _values(record, task)
    except (UserError, KeyError, ValueError) as error:
        yield f"its recipe {record.labels.recipe} cannot be made again here ({error})"


def _values(record: FullRecord, task: Task) -> Iterator[str]:
    """Yield in which values a recipe is not the one that its protocol names."""
    make = task.recipes().get(record.labels.recipe)
    if make is None:
        yield f"{task.name} has no recipe {record.labels.recipe}"
        return
    stated = without_start(record.labels.protocol)
    wanted = dict(leaves_of(record.spec.recipe))
    backbone = known_backbone(record.spec.backbone)
    config = task.check(make())
    config = task.fit(config, backbone) if backbone is not None else config
    named = dict(leaves_of(as_plain(config)))
    differing = [n for n, v in wanted.items() if n != "protocol" and named.get(n) != v]
    if without_steps(stated) != stated:  # a floor in steps sets the length
        differing = [name for name in differing if name != "schedule.epochs"]
    family, mark, _ = stated.partition("+custom:")
    if not mark and differing:
        name = differing[0]
        yield (
            f"its protocol {stated} states {name}={named.get(name)}, but it was run with "
            f"{wanted[name]}"
        )
    if mark and not differing:
        yield f"its protocol {stated} says that values were changed, but none is"
    if mark and base_protocol(apply_overrides(make(), []).protocol).split("/")[0] not in family:
        yield f"its protocol {stated} is not one of the recipe {record.labels.recipe}"


def _time(record: FullRecord) -> Iterator[str]:
    """Yield what cannot be of seconds, images and the times of the attempts."""
    seconds = record.cost.get("seconds")
    if seconds is None:
        return
    passed = sum(_seconds_of(one.started, one.ended) for one in record.attempts)
    # Times are kept in whole seconds.
    if seconds > passed + 2 * len(record.attempts):
        yield f"it took {seconds:.0f} s, but its attempts lasted {passed:.0f} s"
    images, rate = _images_drawn(record), record.cost.get("images_per_second_train")
    # A loaded machine takes longer than the speed that was timed alone, never much less.
    if images and rate and images / rate > _NEAR * seconds:
        yield (
            f"it trained on {images:,} images at {rate:.1f} images/s, which takes "
            f"{images / rate:,.0f} s, but it says {seconds:,.0f} s"
        )


def _images_drawn(record: FullRecord) -> int:
    """Return the images that a training drew, repeats counted; 0 where the curve does not say."""
    steps = [step for step in record.curves.get("step", ()) if step is not None]
    return int(max(steps) * record.spec.batch_size) if steps else 0


def _seconds_of(started: str, ended: str) -> float:
    try:
        return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    except ValueError:
        return 0.0


def _work(record: FullRecord) -> Iterator[str]:
    """Yield what cannot be of operations and speed."""
    rate = record.cost.get("images_per_second_train")
    work = image_work(record.spec)
    if work is None:
        return
    forward, each = work[0], work[0] * work[1]
    counted = record.cost.get("gflops")
    if counted and not 1 / _COUNTED <= counted * 1e9 / forward <= _COUNTED:
        yield (
            f"it counted {counted:.3g} GFLOPs, but {record.spec.backbone} at this size has about "
            f"{forward / 1e9:.2g}"
        )
    most = _most(record.environment)
    if rate and rate * each > most:
        yield (
            f"{rate:,.0f} images/s in training are {rate * each:.2g} multiply-adds a second, more "
            f"than its devices can do ({most:.2g})"
        )


def _most(environment: Mapping[str, Any]) -> float:
    """Return the multiply-adds a second that the devices of a run cannot exceed."""
    gpus = environment.get("gpus") or ()
    processes = int(environment.get("processes") or 1)
    if gpus:
        return _MOST_GPU * max(len(gpus), processes)
    cores = environment.get("cores")
    found = re.search(r"\d+", str(cores))
    return _MOST_CORE * max(1, int(found[0]) if found else 256)
