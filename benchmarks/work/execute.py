"""Run the task of a request, in the process that measures or in one that helps."""

import os
from pathlib import Path
from typing import Any

from backbones.base.errors import PreflightError
from backbones.base.monitor import Monitor
from backbones.base.registry import lookup
from backbones.base.sections import restore
from backbones.catalog import spec_for
from backbones.spec import BackboneSpec
from backbones.timing.conditions import Watch
from backbones.trial import refuse_broken, verdict_of
from benchmarks.overrides import apply_overrides
from benchmarks.plan.rules import known_rules
from benchmarks.plan.weights import open_weights
from benchmarks.store.folders import CACHE, RunFolder
from benchmarks.store.spec import RunRequest
from benchmarks.suites import get_task
from benchmarks.task import Facts, Task, TaskInputs
from benchmarks.work.memory import fitted_overrides
from benchmarks.work.recorded import ExecutedRun, backbone_facts, done_record
from benchmarks.work.timed import with_timing

_AGAIN = "Run the same command again."


def execute(request: RunRequest, folder: RunFolder, monitor: Monitor) -> ExecutedRun:
    """Do a run.

    Args:
        request: The run.
        folder: Folder of the run; the run is resumed from a state in it.
        monitor: To report to.

    Raises:
        StoppedError: The monitor asked to stop; the state is saved.
        PreflightError: The weights, the data or the code are not what the plan knew.
    """
    task, inputs, facts = _prepare(request, folder)
    _stay_alone(task)
    watch = Watch()
    result = with_timing(task.run(inputs, monitor), watch)
    backbone = backbone_facts(inputs.checkpoint, result.coverage)
    return done_record(request, task, facts, backbone, result, folder)


def take_part(request: RunRequest, folder: RunFolder, monitor: Monitor) -> None:
    """Do the part of a run that belongs to a process other than the first, which records.

    Args:
        request: The run.
        folder: Folder of the run.
        monitor: To report to.

    Raises:
        StoppedError: The processes agreed to stop.
        PreflightError: As ``execute``.
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
    inputs = TaskInputs(
        backbone=backbone,
        checkpoint=checkpoint,
        config=apply_overrides(config_of(request, task), fitted_overrides(folder)),
        data=request.data,
        out_dir=folder.work,
        cache=cache,
        seed=request.spec.seed,
        limit_images=request.spec.limit_images,
        evaluator=request.evaluator,
        channels_last=verdict.channels_last,
        timed=True,
        first=request.first,
    )
    return task, inputs, facts


def config_of(request: RunRequest, task: Task) -> Any:
    """Return the recipe of a run, overrides applied.

    Args:
        request: The run.
        task: Its task.

    Raises:
        PreflightError: The task has no such recipe any more, or one with other values.
    """
    recipe = lookup("recipe", request.recipe, dict(task.recipes()))()
    try:
        config = restore(recipe, request.spec.recipe)
        return apply_overrides(config, request.overrides_not_in_spec)
    except ValueError as error:
        raise PreflightError(
            f"The code changed since this run was planned: {error}. {_AGAIN}"
        ) from error


def _check_unchanged(request: RunRequest, task: Task, backbone: BackboneSpec, cache: Path) -> Facts:
    """Refuse to file a result under an identity that is not its own; return what the data are."""
    spec = request.spec
    if backbone.file_sha256 != spec.backbone_sha256:
        raise PreflightError(
            f"The file that defines {backbone.name!r} changed since the plan was made. {_AGAIN}"
        )
    if task.version != spec.task_version or not set(spec.rules) <= set(known_rules()):
        raise PreflightError(f"The code changed since the plan was made. {_AGAIN}")
    facts = task.read_facts(request.data, cache)
    if facts.fingerprint != spec.data_fingerprint:
        raise PreflightError(
            f"The {request.data.name} data changed since the plan was made. {_AGAIN}"
        )
    return facts
