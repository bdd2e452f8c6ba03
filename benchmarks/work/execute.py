"""Run a request's task and turn what comes out, good or bad, into a record."""

import os
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from backbones.base.errors import UserError
from backbones.base.monitor import Monitor
from backbones.base.registry import lookup
from backbones.base.sections import restore
from backbones.catalog import spec_for
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from backbones.trial import refuse_broken, verdict_of
from benchmarks.by_image.runs import keep_resamples
from benchmarks.overrides import apply_overrides
from benchmarks.plan.rules import known_rules
from benchmarks.plan.weights import open_weights
from benchmarks.store.environment import describe
from benchmarks.store.folders import CACHE, RunFolder
from benchmarks.store.record import (
    BackboneFacts,
    Failure,
    FullRecord,
    Labels,
    MetricValue,
    finite,
    thinned,
)
from benchmarks.store.spec import RunRequest
from benchmarks.suites import get_task
from benchmarks.task import Facts, Task, TaskInputs, TaskResult

_FAILED = 3
# What torch's allocators of GPUs and CPUs say.
_NO_MEMORY = ("out of memory", "can't allocate memory")
_AGAIN = "Run the same command again."


@dataclass(frozen=True)
class ExecutedRun:
    """A record that still lacks what only its folder knows: attempts, times, files.

    Attributes:
        record: The record.
        files: Files next to the record that it names.
    """

    record: FullRecord
    files: tuple[Path, ...] = ()


def execute(request: RunRequest, folder: RunFolder, monitor: Monitor) -> ExecutedRun:
    """Do a run.

    Args:
        request: The run.
        folder: Folder of the run; the run is resumed from a state in it.
        monitor: To report to.

    Raises:
        StoppedError: The monitor asked to stop; the state is saved.
        UserError: The weights, the data or the code are not what the plan knew.
    """
    task, inputs, facts = _prepare(request, folder)
    _stay_alone(task)
    result = task.run(inputs, monitor)
    kept = keep_resamples(folder.work, result.files, task.image_file, task.metrics)
    files = (*result.files, *kept)
    record = _done_record(request, task, inputs.checkpoint, result)
    return ExecutedRun(replace(record, warnings=_warnings(request, facts, record)), files)


def _warnings(request: RunRequest, facts: Facts, record: FullRecord) -> tuple[str, ...]:
    """Return all that a reader of a record has to know of its data, plan and run, once each."""
    return tuple(dict.fromkeys((*facts.notes, *request.notes, *record.warnings)))


def take_part(request: RunRequest, folder: RunFolder, monitor: Monitor) -> None:
    """Do the part of a run that belongs to a process other than the first, which records.

    Args:
        request: The run.
        folder: Folder of the run.
        monitor: To report to.

    Raises:
        StoppedError: The processes agreed to stop.
        UserError: As ``execute``.
    """
    task, inputs, _ = _prepare(request, folder)
    _stay_alone(task)
    task.take_part(inputs, monitor)


def _stay_alone(task: Task) -> None:
    """Keep a process out of the group that its launcher described, where the task forms none."""
    if not task.distributed:
        os.environ.pop("WORLD_SIZE", None)


def _prepare(request: RunRequest, folder: RunFolder) -> tuple[Task, TaskInputs, Facts]:
    task = get_task(request.spec.task)
    checkpoint = open_weights(request, folder.path.parent)
    cache = folder.path.parent / CACHE
    backbone = spec_for(checkpoint, request.plugins)
    facts = _check_unchanged(request, task, backbone, cache)
    verdict = verdict_of(backbone, request.plugins, cache)
    refuse_broken(backbone, verdict, task.reads_maps)
    recipe = lookup("recipe", request.recipe, dict(task.recipes()))()
    try:
        config = restore(recipe, request.spec.recipe)
        config = apply_overrides(config, request.overrides_not_in_spec)
    except ValueError as error:
        raise UserError(
            f"The code changed since this run was planned: {error}. {_AGAIN}"
        ) from error
    inputs = TaskInputs(
        backbone=backbone,
        checkpoint=checkpoint,
        config=config,
        data=request.data,
        out_dir=folder.work,
        cache=cache,
        seed=request.spec.seed,
        limit_images=request.spec.limit_images,
        evaluator=request.evaluator,
        channels_last=verdict.channels_last,
    )
    return task, inputs, facts


def failed_record(request: RunRequest, error: BaseException, phase: str) -> ExecutedRun:
    """Return the record of a run that raised ``error``."""
    failure = Failure(
        phase=phase,
        type=type(error).__name__,
        message=_sentence(error),
        hint=_hint(error),
        exit_code=error.exit_code if isinstance(error, UserError) else _FAILED,
    )
    return ExecutedRun(replace(_blank(request), failure=failure))


def _check_unchanged(request: RunRequest, task: Task, backbone: BackboneSpec, cache: Path) -> Facts:
    """Refuse to file a result under an identity that is not its own; return what the data are."""
    spec = request.spec
    if backbone.file_sha256 != spec.backbone_sha256:
        raise UserError(
            f"The file that defines {backbone.name!r} changed since the plan was made. {_AGAIN}"
        )
    if task.version != spec.task_version or not set(spec.rules) <= set(known_rules()):
        raise UserError(f"The code changed since the plan was made. {_AGAIN}")
    facts = task.read_facts(request.data, cache)
    if facts.fingerprint != spec.data_fingerprint:
        raise UserError(f"The {request.data.name} data changed since the plan was made. {_AGAIN}")
    return facts


def _done_record(
    request: RunRequest, task: Task, checkpoint: Checkpoint, result: TaskResult
) -> FullRecord:
    return replace(
        _blank(request),
        status="done",
        backbone=_backbone_facts(checkpoint, result.coverage),
        headline=task.headline,
        columns=task.columns,
        metrics=_with_meaning(task, result),
        per_class={
            name: {key: _finite(value) for key, value in values.items()}
            for name, values in result.per_class.items()
        },
        curves={name: thinned(series) for name, series in result.curves.items()},
        cost={name: _finite(value) for name, value in result.cost.items()},
        details=result.details,
        warnings=tuple(result.warnings),
    )


def _blank(request: RunRequest) -> FullRecord:
    """Return a record of failure without a reason; every use replaces what it knows better."""
    labels = Labels(
        suite=request.suite,
        entry=request.entry,
        recipe=request.recipe,
        protocol=request.protocol,
        data=request.data.name,
        mini=request.data.mini,
    )
    return FullRecord(
        spec=request.spec,
        status="failed",
        attempt=1,
        created="",
        finished="",
        labels=labels,
        backbone=BackboneFacts(
            request.spec.backbone, format=request.spec.weights_format.partition("&")[0]
        ),
        headline="",
        columns=(),
        metrics={},
        per_class={},
        curves={},
        cost={},
        environment={**describe(), "rules": known_rules()},
        attempts=(),
        failure=None,
        warnings=(),
        details={},
        files=(),
    )


def _backbone_facts(checkpoint: Checkpoint, coverage: str) -> BackboneFacts:
    return BackboneFacts(
        name=checkpoint.backbone,
        format=checkpoint.format,
        branch=checkpoint.branch,
        method=checkpoint.method,
        data=checkpoint.data,
        epochs=checkpoint.epochs,
        img_size=checkpoint.img_size,
        licence=checkpoint.licence,
        coverage=coverage,
        mean=checkpoint.mean,
        std=checkpoint.std,
    )


def _with_meaning(task: Task, result: TaskResult) -> dict[str, MetricValue]:
    """Return every metric of the task with unit, direction and, where it has no value, why."""
    found = {}
    for name, metric in task.metrics.items():
        value = result.metrics.get(name)
        reason = None
        if value is None:
            reason = result.unmeasured
        elif finite(value) is None:
            value, reason = None, "the result was not a number"
        found[name] = MetricValue(value, metric.unit, metric.higher_is_better, reason)
    return found


def _finite(value: float | None) -> float | None:
    return None if value is None else finite(float(value))


def _sentence(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    first = text[0] if text else type(error).__name__
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"[:500]


def _hint(error: BaseException) -> str:
    if isinstance(error, UserError):
        return ""
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY):
        return (
            "The device ran out of memory: lower schedule.batch_size_per_device with --set; the "
            "global batch stays as it is."
        )
    return "The log next to the record has the whole trace."
