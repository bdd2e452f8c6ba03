"""From what a run found, or what it failed with, to its record."""

from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from backbones.base.errors import UserError
from backbones.checkpoint import Checkpoint
from benchmarks.by_image.runs import keep_resamples
from benchmarks.plan.rules import known_rules
from benchmarks.store.environment import describe
from benchmarks.store.folders import RunFolder
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
from benchmarks.task import Facts, Measurement, TaskResult

_FAILED = 3
# What torch's allocators of GPUs and CPUs say.
_NO_MEMORY = ("out of memory", "can't allocate memory")


@dataclass(frozen=True)
class ExecutedRun:
    """A record that still lacks what only its folder knows: attempts, times, files.

    Attributes:
        record: The record.
        files: Files next to the record that it names.
    """

    record: FullRecord
    files: tuple[Path, ...] = ()


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


def done_record(
    request: RunRequest,
    task: Measurement,
    facts: Facts,
    backbone: BackboneFacts,
    result: TaskResult,
    folder: RunFolder,
) -> ExecutedRun:
    """Return the record of a run that found numbers; writes its resamples next to its files.

    Args:
        request: The run.
        task: What it measured.
        facts: Of the data it was measured on.
        backbone: The network and its weights' provenance.
        result: What it found.
        folder: Folder of the run.

    Raises:
        PreflightError: The resamples cannot be written.
    """
    kept = keep_resamples(folder.work, result.files, task.image_file, task.metrics)
    warnings = dict.fromkeys((*facts.notes, *request.notes, *result.warnings))
    record = replace(
        _blank(request),
        status="done",
        backbone=backbone,
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
        warnings=tuple(warnings),
    )
    return ExecutedRun(record, (*result.files, *kept))


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


def backbone_facts(checkpoint: Checkpoint, coverage: str) -> BackboneFacts:
    """Return what a record says of a network and its weights.

    Args:
        checkpoint: The weights.
        coverage: One sentence on how they were loaded.
    """
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


def _with_meaning(task: Measurement, result: TaskResult) -> dict[str, MetricValue]:
    """Return every metric of a measurement with unit, direction and, where it has no value, why."""
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
            "The device ran out of memory: hold fewer images at once with --set "
            "schedule.batch_size_per_device=N; the global batch stays as it is."
        )
    return "The log next to the record has the whole trace."
