"""The front door: a checkpoint in, APbox and APmask out."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm

from backbones.base.devices import choose_threads
from backbones.base.distributed import barrier, rank, world_size
from backbones.base.monitor import Monitor, say_card
from backbones.base.sections import as_plain, settings_of
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from backbones.timing.alone import time_alone
from backbones.timing.conditions import Rates
from backbones.training.engine import fit
from backbones.training.fitted import Fitted
from backbones.training.optim import ParameterGroup
from backbones.training.session import card_of, cost_of, joined, scalar_writer
from backbones.training.settle import Settled, Trial, settle
from backbones.training.state import StateFolder, settings_digest
from backbones.training.stream import batches
from backbones.weights.loading import build_backbone
from detection.config import DetectionConfig, DetectionScheduleConfig
from detection.data.dataset import CocoData, check_objects, load_split, load_training_images
from detection.data.facts import DataFacts, read_by, read_facts
from detection.data.loader import TrainSamples
from detection.evaluations import Evaluations, period, told
from detection.model.cost import gflops
from detection.model.detector import Detector, build_detector
from detection.model.facts import detector_facts, prove
from detection.objective import DetectionObjective, detector_groups, make_training
from detection.protocols import build_options, held
from detection.schedule import make_plan
from detection.scoring.evaluate import Evaluation, EvaluationOptions, evaluate, look
from detection.scoring.speed import rehearse_test
from detection.start import DetectorStart, fill

# Settings that change no weight; see ``settings_digest``.
_CHANGES_NO_WEIGHT: Mapping[str, tuple[str, ...]] = {
    "evaluation": (),
    "schedule": ("micro_batch",),
}
# Folder of training states within a run's.
STATES = "states"
_CONTIGUOUS = "contiguous; the network was not shown to work with channels last"


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
        channels_last: Whether weights may be laid out with channels last.
        num_workers: Loader processes beside each training process.
        runs: Folder of runs, each with a folder named as ``out_dir``, from which the state of the
            very same training may be taken; None for none.
        timed: Whether to time training and testing alone at the end.
        start: Trained detector whose weights replace the fresh ones and the backbone's; None for
            none.
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
    channels_last: bool = True
    runs: Path | None = None
    timed: bool = False
    start: DetectorStart | None = None


@dataclass(frozen=True)
class TransferResult:
    """What a transfer run found.

    Attributes:
        metrics: By name, in percent; None where there is no ground truth.
        per_class: APbox and APmask of each class.
        cost: images_per_second_train (None when too short to be timed), images_per_second_test,
            loader_wait_percent, parameters_millions, gflops, peak_memory_gib, seconds (of training
            steps, over all starts) and, where there were evaluations during training,
            seconds_evaluating (of these).
        curves: Columns of the training curve, and of the evaluations during training.
        coverage: The report on the weights, one line.
        detections_file: Detections of each image.
        matches_file: Which of them are right.
        details: The start-up card: what was decided for the user, in plain values.
        warnings: What a reader of the numbers has to know, one sentence each.
        rates: Speed of training and testing, timed alone at the end; see ``timing.alone``.
    """

    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    cost: dict[str, float | None]
    curves: dict[str, list[float]]
    coverage: str
    detections_file: Path
    matches_file: Path
    details: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    rates: Rates = field(default_factory=Rates)


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
    with joined(monitor) as (device, quiet), local_group():
        return _transfer(job, device, quiet)


def _transfer(job: TransferJob, device: torch.device, monitor: Monitor) -> TransferResult:
    config, evaluation = job.config, job.config.evaluation
    facts = read_facts(job.data, job.cache)
    data = read_by(job.data, facts)
    job = replace(job, data=data)
    images = load_training_images(data, config.data, seed=job.seed, limit_images=job.limit_images)
    _check_measurable(job)
    plan = make_plan(config.schedule, config.optim, len(images))
    threads = choose_threads(device, job.num_workers)
    detector, coverage = _build(job, facts, device)
    options = EvaluationOptions(job.evaluator, job.limit_images, job.num_workers)
    with scalar_writer(job.out_dir) as writer:
        evaluations = Evaluations(
            period(evaluation, plan),
            lambda: look(detector, data, evaluation, monitor, options).metrics,
            plan.num_steps,
            monitor,
            writer,
        )
        objective = DetectionObjective(detector, config.optim, writer)
        groups = detector_groups(objective, config.optim)
        proven = _proven(detector, config, groups)
        samples = TrainSamples(images, config.data, job.seed)
        settled = _settle(job, objective, samples)
        own = replace(config, schedule=settled.schedule)
        training = make_training(objective, groups, plan, own, job.seed, evaluations)
        training = replace(training, fewer=settled.fewer)
        card = {
            "weights": coverage,
            **_card(config, facts, detector),
            "layout": "channels last" if job.channels_last else _CONTIGUOUS,
            **card_of(training, groups, threads, job.num_workers, held_as=settled.why),
            "evaluated": told(period(evaluation, plan), plan),
        }
        say_card(monitor, {**card, "detector": [f"{k}: {v}" for k, v in proven.items()]})
        card["detector"] = proven
        fitted = fit(
            training,
            _states(job, facts, monitor),
            partial(batches, samples, training.share, num_workers=job.num_workers),
            monitor,
            writer=writer,
        )
        card["speed"] = fitted.speed
        found = evaluate(detector, data, evaluation, job.out_dir, monitor, options)
        if evaluations.curve:
            evaluations.add(plan.num_steps, found.metrics)
    outcome = _outcome(job, detector, fitted, evaluations, found, card)
    return replace(outcome, rates=_timed(job, detector, fitted, monitor)) if job.timed else outcome


def _settle(
    job: TransferJob, objective: DetectionObjective, samples: TrainSamples
) -> Settled[DetectionScheduleConfig]:
    """Return how many images are held at once."""
    config = job.config
    trial = Trial(
        objective=objective,
        batch_of=lambda count: samples(range(count)).batch,
        network=job.spec.name,
        settings=[
            as_plain(config.model),
            as_plain(config.data),
            config.model.activation_checkpointing,
        ],
        cache=job.cache,
    )
    return settle(config.schedule, held(config, job.spec), trial)


def _timed(job: TransferJob, detector: Detector, fitted: Fitted, monitor: Monitor) -> Rates:
    """Return the speed, for which the detector is trained on: nothing needs it any more."""
    evaluation = job.config.evaluation
    images = load_split(job.data, evaluation.split, limit_images=job.limit_images)
    return time_alone(
        {
            "images_per_second_test": lambda: rehearse_test(detector, images, evaluation),
            "images_per_second_train": fitted.rehearse,
        },
        monitor,
    )


def _check_measurable(job: TransferJob) -> None:
    """Refuse a limit that leaves nothing to measure, before anything is trained."""
    if job.limit_images is None:  # ``read_facts`` has looked at whole splits
        return
    split = job.config.evaluation.split
    images = load_split(job.data, split, limit_images=job.limit_images)
    path = job.data.annotation_file(split)
    check_objects(images, path, split, limit_images=job.limit_images)


def _build(job: TransferJob, facts: DataFacts, device: torch.device) -> tuple[Detector, str]:
    """Return the detector on its device, and the report on the backbone's weights."""
    options = build_options(job.config, job.spec)
    net, coverage = build_backbone(job.spec, job.checkpoint, options, job.seed)
    known = (len(facts.class_names), facts.has_masks)
    detector = build_detector(net, job.spec, job.config, known, job.seed)
    said = coverage.sentence()
    if job.start is not None:
        said = fill(detector, job.start, facts.class_names).sentence()
    layout = torch.channels_last if job.channels_last else torch.contiguous_format
    return detector.to(device, memory_format=layout), said


def _proven(
    detector: Detector, config: DetectionConfig, groups: list[ParameterGroup]
) -> dict[str, str]:
    """Return the facts about the detector, which are those that its protocol states."""
    rates = {id(p): group.lr_factor for group in groups for p in group.parameters}
    names = dict(detector.net.named_parameters())
    factors = {name: rates[id(p)] for name, p in names.items() if id(p) in rates}
    facts = detector_facts(detector, config, factors)
    prove(facts, config, detector.net, factors)
    return facts


def _outcome(
    job: TransferJob,
    detector: Detector,
    fitted: Fitted,
    evaluations: Evaluations,
    found: Evaluation,
    card: dict[str, Any],
) -> TransferResult:
    curve = evaluations.curve
    return TransferResult(
        metrics=found.metrics,
        per_class=found.per_class,
        cost={
            **cost_of(fitted, detector),
            "images_per_second_test": found.images_per_second,
            "gflops": gflops(detector, job.config.evaluation.max_size),
            **({"seconds_evaluating": evaluations.seconds} if curve else {}),
        },
        curves={**fitted.curve, **curve},
        coverage=card["weights"],
        detections_file=found.detections_file,
        matches_file=found.matches_file,
        details={**card, "evaluator": found.evaluator},
        warnings=fitted.warnings(),
    )


def _card(config: DetectionConfig, facts: DataFacts, detector: Detector) -> dict[str, Any]:
    """Return what was decided for the user about a detection run, in words."""
    data = config.data
    padding = f"square of {data.img_size}" if data.square else "multiple of 32"
    masks = "masks" if facts.has_masks else "boxes only"
    return {
        "protocol": config.protocol,
        "data": f"{len(facts.class_names)} classes, {masks}; padded to a {padding}; "
        f"tested at {config.evaluation.short_side}, at most {config.evaluation.max_size}",
        "mended data": list(facts.notes),
        "frozen": f"{config.model.freeze}; not used by detection: "
        f"{', '.join(detector.unused) or 'nothing'}",
    }


def _identity(job: TransferJob, facts: DataFacts) -> dict[str, str]:
    """Return all that decides the course of training, by words that a person understands."""
    return {
        "backbone": job.spec.name,
        "weights": job.checkpoint.sha256,
        "recipe": settings_digest(settings_of(job.config), _CHANGES_NO_WEIGHT),
        "data": _training_data(facts),
        "image limit": str(job.limit_images),
        "seed": str(job.seed),
        **({"first weights": job.start.sha256} if job.start else {}),
    }


def _states(job: TransferJob, facts: DataFacts, monitor: Monitor) -> StateFolder:
    """Return the states of a run; without any, the first process takes those of a like training."""
    former = {"data": facts.former_fingerprint}
    states = StateFolder(job.out_dir / STATES, _identity(job, facts), former)
    # A run that is done again on request (its first record set aside) trains again.
    again = any(job.out_dir.parent.glob("record-*.json"))
    if rank() == 0 and job.runs is not None and not again:
        states.adopt(sorted(job.runs.glob(f"*/{job.out_dir.name}/{STATES}")), monitor.say)
    barrier()
    return states


def _training_data(facts: DataFacts) -> str:
    """Return what trained weights depend on, of test images only whether they have masks."""
    return facts.train_fingerprint + ("" if facts.has_masks else " boxes only")


@contextmanager
def local_group() -> Iterator[None]:
    """Give detectron2 its group of this machine's processes, which it wants besides torch's."""
    if world_size() > 1 and comm._LOCAL_PROCESS_GROUP is None:
        comm.create_local_process_group(int(os.environ.get("LOCAL_WORLD_SIZE", world_size())))
    try:
        yield
    finally:
        comm._LOCAL_PROCESS_GROUP = None
