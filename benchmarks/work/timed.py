"""What a run's costs say of its speed, and of what else the machine did."""

import os
import sys
from dataclasses import asdict, replace

from backbones.timing.conditions import Watch
from backbones.timing.machine import machine
from benchmarks.store.timing import OVERALL, TIMED, TIMING
from benchmarks.task import TaskResult


def with_timing(result: TaskResult, watch: Watch) -> TaskResult:
    """Return a result whose rates are those that were timed alone, and how costs were measured.

    The rates of the whole run keep their values under other names. What was not timed alone was
    measured during the whole attempt.

    Args:
        result: Of a task.
        watch: Made when the task began.
    """
    timed = result.rates.images_per_second
    overall = {f"{name}{OVERALL}": result.cost[name] for name in timed if name in result.cost}
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    # The other processes of the run are not children of this one, and look like anybody's.
    own = None if several else watch.own()
    whole = watch.conditions(own=own, threads=_threads(), siblings=machine().siblings())
    found = {name: whole for name in result.cost if name in TIMED} | dict(result.rates.conditions)
    timing = {name: asdict(conditions) for name, conditions in found.items()}
    return replace(
        result,
        cost={**result.cost, **timed, **overall},
        details={**result.details, TIMING: timing},
    )


def _threads() -> int | None:
    """Return the threads that torch computes with, None where the run did not load it."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None else None
