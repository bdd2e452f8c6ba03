"""A short timing at the end of a run, while the other runs of the machine pause."""

import heapq
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from backbones.base.distributed import any_rank, gather, rank
from backbones.base.errors import UserError
from backbones.base.monitor import Monitor
from backbones.timing.conditions import Conditions, Rates, Watch
from backbones.timing.machine import WAIT_SECONDS, Machine, machine

# Repetitions of a piece of work: as many as fit into this time, within these bounds.
_SECONDS, _FEWEST, _MOST = 1.0, 3, 1000
# After this time no repetition begins, however few there were.
_LONG_SECONDS = 10.0
# A timing that other processes disturbed is tried again, this often in all, each time for longer,
# unless it took more seconds than this.
_TRIES, _PATIENCE_SECONDS = 3, 3.0


@dataclass(frozen=True)
class Rehearsal:
    """A piece of a run's work that can be repeated for its time; what it leaves is not used.

    Attributes:
        work: Does it once, on this process; images lie in memory already.
        images: Images that this process works on in it.
    """

    work: Callable[[], object]
    images: int


def time_alone(
    rehearsals: Mapping[str, Callable[[], Rehearsal]],
    monitor: Monitor,
    turns: Machine | None = None,
    limit: float = WAIT_SECONDS,
) -> Rates:
    """Time pieces of work while the other runs of the machine pause. Every process calls this.

    The rate is that of the fastest repetition, which other work of the machine delayed least. A run
    of one thread counts the processor's time, which leaves out waits for a core. A run that cannot
    get the machine for itself in time is timed next to the others, which its conditions say. Random
    generators are afterwards as they were. A run that shall stop, or whose work cannot be repeated,
    is not timed: its results do not wait for that.

    Args:
        rehearsals: By name of the rate; each is prepared before the machine is asked for.
        monitor: Told of a wait in vain, and asked whether to stop.
        turns: The turns of the machine; None for those of all runs.
        limit: Longest wait for the other runs, in seconds.
    """
    turns = turns or machine()
    if any_rank(monitor.should_stop()):
        return Rates()
    try:
        with _same_draws():
            found = _found(rehearsals, monitor, turns, limit)
    except UserError as error:
        monitor.say(f"speed: not timed: {error}")
        return Rates()
    return Rates(
        {name: rate for name, (rate, _) in found.items()},
        {name: conditions for name, (_, conditions) in found.items()},
    )


def _found(
    rehearsals: Mapping[str, Callable[[], Rehearsal]],
    monitor: Monitor,
    turns: Machine,
    limit: float,
) -> dict[str, tuple[float | None, Conditions]]:
    """Return rate and conditions of each rehearsal, by name."""
    ready = {name: prepare() for name, prepare in rehearsals.items()}
    for rehearsal in ready.values():
        rehearsal.work()  # allocators and kernels warm up
    if rank() > 0:
        return {name: _timed(one, turns, None) for name, one in ready.items()}
    with turns.alone(monitor.should_stop, limit) as waited:
        if waited is None:
            monitor.say(
                f"speed: other runs did not pause within {limit:.0f} s, so it is measured next "
                "to them."
            )
        return {name: _timed(one, turns, waited) for name, one in ready.items()}


def _timed(
    rehearsal: Rehearsal, turns: Machine, waited: float | None
) -> tuple[float | None, Conditions]:
    """Return the rate of the best try and its conditions, the same on every process."""
    images = sum(gather(rehearsal.images))
    best: tuple[float | None, Conditions] | None = None
    for number in range(1, _TRIES + 1):
        seconds, conditions = _tried(rehearsal, turns, number * _SECONDS)
        conditions = replace(conditions, alone=True, waited=round(waited or 0.0, 2))
        rate = images / seconds if images else None
        better = best is None or conditions.quiet or (rate or 0.0) > (best[0] or 0.0)
        if better:
            best = rate, conditions
        # Tries are counted alike on all processes, so the first one decides.
        if gather(conditions.quiet is not False or conditions.seconds > _PATIENCE_SECONDS)[0]:
            break
    assert best is not None
    return gather(best)[0]


def _tried(rehearsal: Rehearsal, turns: Machine, seconds: float) -> tuple[float, Conditions]:
    """Repeat work for a number of seconds, in all processes together; time the fastest one."""
    watch = Watch()
    start, taken = time.perf_counter(), [_once(rehearsal)]
    for number in range(1, _MOST):
        passed = time.perf_counter() - start
        enough = passed > (seconds if number >= _FEWEST else _LONG_SECONDS)
        # The first process decides, so that all repeat it equally often.
        if gather(enough)[0]:
            break
        taken.append(_once(rehearsal))
    own = _own_of_all(watch)
    fastest = heapq.nsmallest(_FEWEST, taken)
    return fastest[0], watch.conditions(
        own=own,
        threads=torch.get_num_threads(),
        siblings=turns.siblings(),
        spread=fastest[-1] / fastest[0] - 1 if len(fastest) == _FEWEST else None,
    )


def _once(rehearsal: Rehearsal) -> float:
    """Return the seconds of one repetition, until the last process is done."""
    gather(None)
    _wait_for_device()
    start, computed = time.perf_counter(), time.process_time()
    rehearsal.work()
    _wait_for_device()
    seconds, computed = time.perf_counter() - start, time.process_time() - computed
    if _counts_processor_time():
        seconds = min(seconds, computed)
    return max(max(gather(seconds)), 1e-9)


def _counts_processor_time() -> bool:
    """Return whether the processor's time is that of the work: one thread on a CPU.

    Waits for a core that others used tell nothing of the run's speed. The kernel also counts them
    (sched-stats.rst), but not at the moments at which a section begins and ends: subtracted from
    its length, they gave rates that were a fifth and more too high.
    """
    return torch.get_num_threads() == 1 and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def _own_of_all(watch: Watch) -> float | None:
    """Return the processor seconds of the run's processes on this machine, None if unknown."""
    host = socket.gethostname()
    spent = [own for name, own in gather((host, watch.own())) if name == host]
    known = [own for own in spent if own is not None]
    return sum(known) if len(known) == len(spent) else None


def _wait_for_device() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


@contextmanager
def _same_draws() -> Iterator[None]:
    """Leave the generators of torch and Python as they were."""
    python = random.getstate()
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count() if started else 0)):
            yield
    finally:
        random.setstate(python)
