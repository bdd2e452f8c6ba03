"""The front door: a checkpoint in, APbox and APmask out."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from detectron2.utils import comm

from backbones.base import devices
from backbones.base.devices import choose_threads, peak_memory_gib, wrap
from backbones.base.distributed import leave_process_group, rank, world_size
from backbones.base.files import canonical_json
from backbones.base.micro_batches import micro_batches
from backbones.base.monitor import FollowerMonitor, Monitor, say_card
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec, BuildOptions
from backbones.weights.loading import build_backbone
from detection.config import DetectionConfig, at_depth
from detection.data.dataset import (
    CocoData,
    DataFacts,
    Split,
    check_objects,
    load_split,
    load_training_images,
    read_facts,
)
from detection.data.loader import train_batches
from detection.evaluations import EvaluationPlan, period, told, write_last
from detection.model import cost
from detection.model.detector import Detector, build_detector
from detection.optim import make_optimizer, parameter_groups
from detection.schedule import Plan, make_plan
from detection.scoring.evaluate import Evaluation, EvaluationOptions, evaluate, look
from detection.train import TENSORBOARD, Trained, train
from detection.trainer import Training


@dataclass(frozen=True)
class TransferJob:
    """One transfer run.

    Attributes:
        spec: Of the backbone.
        checkpoint: Its weights.
        config: The recipe, overrides applied.
        data: The data set.
        out_dir: For states, curves and detections; a run goes on from what it finds there.
        seed: Of fresh weights, order, augmentation and sampling.
        cache: For the facts of checked data sets.
        limit_images: Train and test on this many images at most, for a quick look.
        evaluator: "hotcoco" or "pycocotools".
        num_workers: Loader processes beside each training process.
    """

    spec: BackboneSpec
    checkpoint: Checkpoint
    config: DetectionConfig
    data: CocoData
    out_dir: Path
    seed: int
    cache: Path
    limit_images: int | None = None
    evaluator: str = "hotcoco"
    num_workers: int = 1


@dataclass(frozen=True)
class TransferResult:
    """What a transfer run found.

    Attributes:
        metrics: By name, in percent; None where there is no ground truth.
        per_class: APbox and APmask of each class.
        cost: images_per_second_train (None when too short to be timed), images_per_second_test,
            parameters_millions, gflops, peak_memory_gib, seconds (of training steps, over all
            starts) and, where there were evaluations during training, seconds_evaluating (of
            these).
        curves: Columns of the training curve, and of the evaluations during training.
        coverage: The report on the weights, one line.
        detections_file: Detections of each image.
        matches_file: Which of them are right.
        details: The start-up card: what was decided for the user, in plain values.
    """

    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    cost: dict[str, float | None]
    curves: dict[str, list[float]]
    coverage: str
    detections_file: Path
    matches_file: Path
    details: dict[str, Any] = field(default_factory=dict)


def transfer(job: TransferJob, monitor: Monitor) -> TransferResult:
    """Train a detector on the backbone, going on where an earlier start stopped, and score it.

    Every process of a distributed run calls this.

    Args:
        job: What to do.
        monitor: Told of progress by the first process; asked in all whether to stop.

    Raises:
        UserError: The config is impossible, or the loss is no finite number.
        PreflightError: Data, weights or disk cannot serve the run.
        StoppedError: The monitor wanted to stop; the state is saved.
    """
    job = replace(job, config=job.config.resolved())
    device = join()
    try:
        return _transfer(job, device, monitor if rank() == 0 else FollowerMonitor(monitor))
    finally:
        leave()


def _transfer(job: TransferJob, device: torch.device, monitor: Monitor) -> TransferResult:
    config = job.config
    facts = read_facts(job.data, job.cache)
    images = load_training_images(
        job.data, config.data, seed=job.seed, limit_images=job.limit_images
    )
    _check_measurable(job)
    plan = make_plan(config.schedule, config.optim, len(images))
    threads = choose_threads(device, job.num_workers)
    detector, coverage = _build(job, facts, device)
    groups = parameter_groups(detector, detector.net, config.optim)
    options = EvaluationOptions(job.evaluator, job.limit_images, job.num_workers)
    every = period(config.evaluation, plan)
    card = {
        "weights": coverage,
        **_card(config, plan, facts, detector),
        "evaluated": told(every, plan),
        "device": f"{world_size()} x {device.type}, {threads} threads",
        "groups": [group.line(plan.lr) for group in groups],
    }
    say_card(monitor, card)
    training = Training(
        detector=detector,
        optimizer=make_optimizer(groups, config.optim, plan.lr),
        config=config,
        plan=plan,
        seed=job.seed,
        folder=job.out_dir,
        identity=_identity(job, facts),
    )
    batches = partial(_batches, job, images)
    looks = EvaluationPlan(
        every, lambda: look(detector, job.data, config.evaluation, monitor, options).metrics
    )
    trained = train(training, partial(wrap, device=device), batches, monitor, looks)
    evaluation = evaluate(detector, job.data, config.evaluation, job.out_dir, monitor, options)
    if trained.evaluated.curve:
        last = trained.evaluated.add(plan.num_steps, evaluation.metrics)
        if rank() == 0:
            write_last(job.out_dir / TENSORBOARD, plan.num_steps, last)
    return _outcome(config, detector, trained, evaluation, card)


def _check_measurable(job: TransferJob) -> None:
    """Refuse a limit that leaves nothing to measure, before anything is trained."""
    if job.limit_images is None:  # ``read_facts`` has looked at whole splits
        return
    split = cast(Split, job.config.evaluation.split)
    images = load_split(job.data, split, limit_images=job.limit_images)
    path = job.data.annotation_file(split)
    check_objects(images, path, split, limit_images=job.limit_images)


def _build(job: TransferJob, facts: DataFacts, device: torch.device) -> tuple[Detector, str]:
    """Return the detector on its device, and the report on the backbone's weights."""
    model = job.config.model
    options = BuildOptions(
        img_size=job.config.data.img_size,
        drop_path=at_depth(model.drop_path, job.spec.num_layers),
        window_size=model.window_size,
        relative_positions=model.relative_positions,
    )
    net, coverage = build_backbone(job.spec, job.checkpoint, options, job.seed)
    known = (len(facts.class_names), facts.has_masks)
    detector = build_detector(net, job.spec, job.config, known, job.seed)
    return detector.to(device, memory_format=torch.channels_last), coverage.sentence()


def _batches(
    job: TransferJob, images: list[dict[str, Any]], start_step: int
) -> Iterator[list[dict[str, Any]]]:
    return train_batches(
        images,
        job.config,
        seed=job.seed,
        start_step=start_step,
        rank=rank(),
        world_size=world_size(),
        num_workers=job.num_workers,
    )


def _outcome(
    config: DetectionConfig,
    detector: Detector,
    trained: Trained,
    evaluation: Evaluation,
    card: dict[str, Any],
) -> TransferResult:
    evaluated = trained.evaluated
    return TransferResult(
        metrics=evaluation.metrics,
        per_class=evaluation.per_class,
        cost={
            "images_per_second_train": trained.images_per_second,
            "images_per_second_test": evaluation.images_per_second,
            "parameters_millions": cost.parameters_millions(detector),
            "gflops": cost.gflops(detector, config.evaluation.max_size),
            "peak_memory_gib": peak_memory_gib(),
            "seconds": trained.seconds,
            **({"seconds_evaluating": evaluated.seconds} if evaluated.curve else {}),
        },
        curves={**trained.curve, **evaluated.curve},
        coverage=card["weights"],
        detections_file=evaluation.detections_file,
        matches_file=evaluation.matches_file,
        details={**card, "evaluator": evaluation.evaluator},
    )


def _card(
    config: DetectionConfig, plan: Plan, facts: DataFacts, detector: Detector
) -> dict[str, Any]:
    """Return what was decided for the user, in words."""
    schedule, data = config.schedule, config.data
    at_once = schedule.batch_size_per_device
    padding = f"square of {data.img_size}" if data.square else "multiple of 32"
    masks = "masks" if facts.has_masks else "boxes only"
    return {
        "protocol": config.protocol,
        "data": f"{len(facts.class_names)} classes, {masks}; padded to a {padding}; "
        f"tested at {config.evaluation.short_side}, at most {config.evaluation.max_size}",
        "mended data": list(facts.notes),
        "plan": plan.lines(),
        "batch": f"{schedule.batch_size} images a step = {world_size()} processes x "
        f"{micro_batches(schedule.batch_size, at_once, world_size())} micro-batches x "
        f"{at_once} images, {schedule.precision}",
        "frozen": f"{config.model.freeze}; not used by detection: "
        f"{', '.join(detector.unused) or 'nothing'}",
    }


def _identity(job: TransferJob, facts: DataFacts) -> dict[str, str]:
    """Return all that decides the course of training, by words that a person understands."""
    config = {k: v for k, v in asdict(job.config).items() if k != "evaluation"}
    return {
        "backbone": job.spec.name,
        "weights": job.checkpoint.sha256,
        "recipe": hashlib.sha256(canonical_json(config).encode()).hexdigest(),
        "data": facts.fingerprint,
        "image limit": str(job.limit_images),
        "seed": str(job.seed),
    }


def join() -> torch.device:
    """Join the processes of the run, if it has several, and return this one's device.

    detectron2 wants its group of local processes besides torch's.
    """
    device = devices.join()
    if world_size() > 1 and comm._LOCAL_PROCESS_GROUP is None:
        comm.create_local_process_group(int(os.environ.get("LOCAL_WORLD_SIZE", world_size())))
    return device


def leave() -> None:
    """Undo ``join``."""
    leave_process_group()
    comm._LOCAL_PROCESS_GROUP = None
