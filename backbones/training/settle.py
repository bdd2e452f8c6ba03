"""How many images a process holds at once: asked for, or as the recipe and the device allow."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.base.distributed import gather, rank, world_size
from backbones.base.errors import DeviceFullError, UserError
from backbones.base.files import hash16, write_json_atomically
from backbones.base.json_files import parse_json
from backbones.training.config import ScheduleSettings
from backbones.training.draws import draws_besides_depth
from backbones.training.held import HAS_STATISTICS, Held
from backbones.training.objective import Batch, Moment, Objective

Schedule = TypeVar("Schedule", bound=ScheduleSettings)

# Share of a device's memory that a step may fill; fragments and large operators need the rest.
_FILLED = 0.8
_CACHE = "device-memory.json"


@dataclass(frozen=True)
class Trial:
    """What a step's memory is measured with.

    Attributes:
        objective: On its device.
        batch_of: Makes a batch of the given number of images on that device.
        network: Name of the network, for messages.
        settings: Whatever decides how much memory an image takes, as plain values.
        cache: Folder that measurements are remembered in.
    """

    objective: Objective
    batch_of: Callable[[int], Batch]
    network: str
    settings: Any
    cache: Path


@dataclass(frozen=True)
class Settled(Generic[Schedule]):
    """What was settled.

    Attributes:
        schedule: With the number of images that this process holds at once.
        why: In words.
        fewer: Half of that number, for a device that runs out of memory; None where fewer images
            would change the results.
    """

    schedule: Schedule
    why: str
    fewer: int | None = None


def settle(schedule: Schedule, held: Held, trial: Trial) -> Settled[Schedule]:
    """Return the schedule with the number of images that this process holds at once.

    Args:
        schedule: Of the recipe; ``micro_batch`` is what a person or an earlier start chose.
        held: What changes no result.
        trial: For a device whose memory decides.

    Raises:
        UserError: The number that was asked for would change the results, or the batch cannot be
            shared out.
    """
    share = _share(schedule.batch_size, world_size())
    if held.compared:
        number = _share(held.compared, world_size())
        own = _with(schedule, batch_size_per_device=number, micro_batch=0)
        return Settled(own, "compared at once")
    held = _as_built(held, trial)
    if schedule.micro_batch:
        held.refuse(schedule.micro_batch, trial.network)
        return Settled(schedule, "as asked", held.halved(schedule.micro_batch))
    choices = held.choices(share)
    if not choices:
        # Refused where the batch is shared out, with the numbers.
        return Settled(schedule, "by the recipe")
    device = next(trial.objective.parameters()).device
    if device.type == "cuda" and len(choices) > 1:
        number, why = _fitting(choices, schedule, trial, device)
    else:
        number = next((n for n in choices if n <= held.by_recipe), choices[-1])
        why = "by the recipe" if number == held.by_recipe else "as its processes share the batch"
    return Settled(_with(schedule, micro_batch=number), why, held.halved(number))


@contextmanager
def memory_reached(held: int, fewer: int | None) -> Iterator[None]:
    """Say where memory ran out that fewer images at once would need less and change nothing.

    Args:
        held: Images that this process holds at once.
        fewer: As in ``Settled``.

    Raises:
        DeviceFullError: A GPU ran out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        if fewer is None:
            raise
        raise DeviceFullError(held, fewer) from error


def _with(schedule: Schedule, **values: int) -> Schedule:
    return replace(schedule, **values)  # type: ignore[type-var]


def _share(images: int, processes: int) -> int:
    if images % processes:
        raise UserError(
            f"{images} images cannot be shared out over {processes} processes; use another number "
            "of processes."
        )
    return images // processes


def _as_built(held: Held, trial: Trial) -> Held:
    """Return what changes no result, now that the network can be looked at."""
    if held.fixed:
        return held
    objective = trial.objective
    if any(isinstance(part, _BatchNorm) and part.training for part in objective.modules()):
        return replace(held, fixed=trial.network + HAS_STATISTICS)
    if draws_besides_depth(objective):
        return replace(held, fixed=f"{trial.network} has dropout, which draws for all of them")
    return held


def _fitting(
    choices: list[int], schedule: ScheduleSettings, trial: Trial, device: torch.device
) -> tuple[int, str]:
    """Return the largest choice that fits the memory of every process's device, and why."""
    total = torch.cuda.get_device_properties(device).total_memory
    fixed, each = _measured(choices, schedule, trial, device)
    own = next((n for n in choices if fixed + n * each <= _FILLED * total), choices[-1])
    number = min(gather(own))
    needed = (fixed + number * each) / 2**30
    return number, f"about {needed:.1f} of {total / 2**30:.0f} GiB, measured on this card"


def _measured(
    choices: list[int], schedule: ScheduleSettings, trial: Trial, device: torch.device
) -> tuple[float, float]:
    """Return the bytes of a training without images, and those that each image adds."""
    path = trial.cache / _CACHE
    known = _known(path)
    card = torch.cuda.get_device_properties(device)
    key = hash16([trial.network, trial.settings, schedule.precision, card.name, card.total_memory])
    # All processes measure or none: what an objective learns of a batch, it learns of all of them.
    if not all(gather(key in known)):
        fewer, more = sorted(choices)[:2]
        peaks = [_peak(n, schedule, trial, device) for n in (fewer, more)]
        each = max(0.0, (peaks[1] - peaks[0]) / (more - fewer))
        known[key] = [peaks[0] - fewer * each + _moments(trial.objective), each]
        if rank() == 0:
            write_json_atomically(path, known)
    fixed, each = known[key]
    return fixed, each


def _known(path: Path) -> dict[str, list[float]]:
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _moments(objective: Objective) -> int:
    """Return the bytes of an optimizer with two moments, which a trial does not make."""
    trained = (p for p in objective.parameters() if p.requires_grad)
    return 2 * sum(p.numel() * p.element_size() for p in trained)


def _peak(images: int, schedule: ScheduleSettings, trial: Trial, device: torch.device) -> float:
    """Return the most bytes that a step without an update takes, leaving no trace of it."""
    objective, moment = trial.objective, Moment(0, 1, 0.0)
    kept = {name: value.detach().to("cpu", copy=True) for name, value in _state(objective)}
    generators = torch.get_rng_state(), torch.cuda.get_rng_state(device)
    # More than there is, where even this does not fit.
    peak = 2.0 * torch.cuda.get_device_properties(device).total_memory
    precision = torch.bfloat16 if schedule.precision == "bf16" else torch.float32
    training = objective.training
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        objective.train()
        objective.begin_step(moment)
        with torch.autocast(device.type, precision, enabled=precision == torch.bfloat16):
            losses = objective(trial.batch_of(images))
        torch.stack([loss.float() for loss in losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
        objective.before_update(moment)
        objective.after_update(moment)
        peak = float(torch.cuda.max_memory_allocated(device))
    except torch.OutOfMemoryError:
        pass
    finally:
        objective.zero_grad(set_to_none=True)
        objective.load_state_dict(kept)
        objective.train(training)
        torch.set_rng_state(generators[0])
        torch.cuda.set_rng_state(generators[1], device)
        gc.collect()
        torch.cuda.empty_cache()
    return peak


def _state(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return list(module.state_dict().items())
