"""Records that no run made: as many, as large and as varied as those of a year's benchmarking.

All of one seed: the same call writes the same files.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from msgspec.structs import replace

from backbones.base.files import hash16
from backbones.timing.conditions import Conditions
from benchmarks.store.folders import Store
from benchmarks.store.record import (
    MAX_CURVE_POINTS,
    Attempt,
    BackboneFacts,
    Failure,
    FullRecord,
    Labels,
    MetricValue,
)
from benchmarks.store.record_file import to_text
from benchmarks.store.spec import RunSpec
from benchmarks.store.timing import TIMED, TIMING

# Name, parameters in millions, box AP that the family reaches.
_BACKBONES = (
    ("vit-s16", 22.0, 41.0),
    ("vit-b16", 86.0, 47.0),
    ("vit-l16", 304.0, 51.0),
    ("swin-t", 28.0, 44.0),
    ("swin-s", 50.0, 46.5),
    ("swin-b", 88.0, 47.5),
    ("resnet50", 25.6, 39.5),
)
_METHODS = ("random", "supervised", "mae", "lomar", "simmim", "dino", "esvit", "mocov3")
_LOSSES = ("loss", "loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask")
_SCORES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
_HIGHER = {"AP50": 20.0, "AP75": 4.0, "APs": -18.0, "APm": 3.0, "APl": 14.0}
_GPUS = ("A100-SXM4-80GB", "H100-SXM5-80GB")

# Every eleventh entry was measured while other work used the machine.
_CONDITIONS = (
    *[Conditions(2.0, 128, threads=1, other_cores=0.1, sibling_runs=0, alone=True)] * 10,
    Conditions(2.0, 128, threads=1, other_cores=40.0, sibling_runs=1, alone=True),
)


def fill(store: Store, number: int, tasks: Sequence[str] = ("coco",), seeds: int = 3) -> None:
    """Write records: entries by seeds by tasks.

    They are not flushed to the disk, as a run would do it: writing is not what is measured.

    Args:
        store: Where to.
        number: Records in all.
        tasks: Of "coco", "knn" and "linear".
        seeds: Of each entry in each task.
    """
    for _, record in zip(range(number), records(tasks, seeds), strict=False):
        folder = store.folder(record.run_id)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.record.write_bytes(to_text(record))


def records(tasks: Sequence[str] = ("coco",), seeds: int = 3) -> Iterator[FullRecord]:
    """Yield records without end: entry after entry, of each its tasks, of each task its seeds."""
    entry = 0
    while True:
        draw = random.Random(entry)
        quality = draw.gauss(0, 1)
        for task in tasks:
            for seed in range(seeds):
                yield _record(task, entry, seed, quality)
        entry += 1


def _record(task: str, entry: int, seed: int, quality: float) -> FullRecord:
    draw = random.Random(f"{task} {entry} {seed}")
    _, millions, level = _BACKBONES[entry % len(_BACKBONES)]
    method = _METHODS[(entry // len(_BACKBONES)) % len(_METHODS)]
    epochs = 100.0 * (1 + entry % 16) if method != "random" else None
    coco = task == "coco"
    spec = _spec(task, entry, seed, method)
    metrics = _coco_metrics(draw, level, quality) if coco else _top1(draw, task, level, quality)
    headline = "APbox" if coco else f"{task}_top1"
    record = FullRecord(
        spec=spec,
        status="done",
        attempt=1,
        created="2026-01-01T00:00:00+00:00",
        finished="2026-01-02T00:00:00+00:00",
        labels=Labels(
            "all", f"{method}-{spec.backbone}", _protocol(task), _protocol(task) + "/v1",
            "coco" if coco else "imagenet", False,
        ),
        backbone=BackboneFacts(
            spec.backbone, method=method, data="" if method == "random" else "IN-1k",
            epochs=epochs, img_size=224, licence="Apache-2.0", coverage="all 148 of 148 tensors",
        ),
        headline=headline,
        columns=tuple(metrics)[:7],
        metrics=metrics,
        per_class=_per_class(draw, level) if coco else {},
        curves=_curves(draw) if coco else {},
        cost=_cost(draw, millions, 30_000.0 if coco else 900.0),
        environment=_environment(draw),
        attempts=(Attempt(1, f"node{draw.randrange(40)}", "2026-01-01T00:00:00+00:00",
                          "2026-01-01T08:20:00+00:00", "done", ""),),
        failure=None,
        warnings=(),
        details={
            "batch": "64 images a step = 8 processes x 1 micro-batches x 8 images",
            TIMING: dict.fromkeys(TIMED, asdict(_CONDITIONS[entry % len(_CONDITIONS)])),
        },
        files=(),
    )  # fmt: skip
    return _failed(record) if entry % 37 == 36 and seed == 0 else record


def _spec(task: str, entry: int, seed: int, method: str) -> RunSpec:
    name = _BACKBONES[entry % len(_BACKBONES)][0]
    return RunSpec(
        task=task,
        task_version=1,
        data_fingerprint=("c0" if task == "coco" else "1a") * 32,
        backbone=name if entry < len(_BACKBONES) * len(_METHODS) else f"{name}-v{entry}",
        backbone_sha256="",
        weights_sha256="random" if method == "random" else hash16(["weights", entry]) * 4,
        weights_format=method if method != "random" else "backbench",
        weights_branch="teacher" if method == "dino" else "",
        recipe={"protocol": _protocol(task), "optim": {f"value_{i}": i / 7 for i in range(60)}},
        seed=seed,
        precision="bf16",
        batch_size=64,
        limit_images=None,
    )


def _protocol(task: str) -> str:
    return "vitdet-100ep" if task == "coco" else task


def _coco_metrics(draw: random.Random, level: float, quality: float) -> dict[str, MetricValue]:
    value = level + 1.5 * quality + draw.gauss(0, 0.25)
    metrics = {}
    for kind, shift in (("box", 0.0), ("mask", -4.5)):
        for score in _SCORES:
            offset = _HIGHER.get(score, 8.0 if score.startswith("AR") else 0.0)
            metrics[f"{score}{kind}"] = _metric(value + shift + offset + draw.gauss(0, 0.2))
    order = ("APbox", "APmask", "AP50box", "AP75box", "APsbox", "APmbox", "APlbox")
    return {name: metrics[name] for name in dict.fromkeys([*order, *metrics])}


def _top1(draw: random.Random, task: str, level: float, quality: float) -> dict[str, MetricValue]:
    value = 20 + 1.2 * level + 3 * quality + draw.gauss(0, 1.5) - (8 if task == "knn" else 0)
    return {f"{task}_top1": _metric(value), f"{task}_top5": _metric(min(99.9, value + 15))}


def _metric(value: float) -> MetricValue:
    return MetricValue(value, "percent", higher_is_better=True, reason=None)


def _per_class(draw: random.Random, level: float) -> dict[str, dict[str, float | None]]:
    return {
        f"class {i}": {"APbox": level + draw.gauss(0, 9), "APmask": level + draw.gauss(-4, 9)}
        for i in range(80)
    }


def _curves(draw: random.Random) -> dict[str, list[float | None]]:
    steps = [float(100 * i) for i in range(MAX_CURVE_POINTS)]
    curves: dict[str, list[float | None]] = {"step": list(steps)}
    for number, name in enumerate(_LOSSES):
        curves[name] = [
            (2.0 if number == 0 else 0.6) * (0.3 + 0.7 / (1 + i / 20)) * (1 + draw.gauss(0, 0.05))
            for i in range(MAX_CURVE_POINTS)
        ]
    curves["lr"] = [1e-4 * (1 - i / MAX_CURVE_POINTS) for i in range(MAX_CURVE_POINTS)]
    return curves


def _cost(draw: random.Random, millions: float, seconds: float) -> dict[str, float | None]:
    speed = 900 / (millions + 15) * draw.uniform(0.9, 1.1)
    return {
        "parameters_millions": millions,
        "gflops": 9 * millions,
        "images_per_second_train": speed,
        "images_per_second_test": 3.1 * speed,
        "peak_memory_gib": 6 + millions / 9,
        "seconds": seconds * (1 + millions / 80),
    }


def _environment(draw: random.Random) -> dict[str, object]:
    gpu = draw.choice(_GPUS)
    return {
        "code": {"version": "0.1.0", "sha256": "ab" * 32, "git": "0123456789abcdef" * 2},
        "python": "3.11.9",
        "libraries": {"torch": "2.9.0", "timm": "1.0.22", "numpy": "2.1.0"},
        "host": f"node{draw.randrange(40)}",
        "gpus": [gpu] * 8,
    }


def _failed(record: FullRecord) -> FullRecord:
    message = "the GPU has no memory left (step 1200, 64 images a step)"
    return replace(
        record,
        status="failed",
        metrics={},
        per_class={},
        failure=Failure("train", "OutOfMemoryError", message, "Lower the batch per device.", 3),
        attempts=(replace(record.attempts[0], outcome="failed", reason=message),),
    )
