"""What a plan says of how trainings will be done: batches, memory, loaders, speed."""

from collections.abc import Sequence

from backbones.base.cores import loaders_of, usable_cores, worker_choice
from backbones.base.errors import UserError
from backbones.catalog import get_spec
from benchmarks.commands.executors import chosen_executor
from benchmarks.local.resources import divide, gpu_memory_gib
from benchmarks.options import HowToRun
from benchmarks.plan.memory import need_of
from benchmarks.plan.plan import Cell
from benchmarks.slurm.cluster import read_cluster
from benchmarks.store.environment import memory_gib
from benchmarks.store.spec import RunRequest
from benchmarks.suites import get_task
from benchmarks.work.execute import config_of

# Share of a GPU that a plan expects a step to fill at most, as runs do.
_FILLED = 0.8
_SHOWN = 4


def outlook(choice: HowToRun, todo: Sequence[Cell], gpu: bool) -> list[str]:
    """Return a line for each kind of training among the runs, at most four.

    Args:
        choice: Flags that name the executor.
        todo: The runs; nothing is said of a plan that is carried out.
        gpu: Whether they get GPUs.

    Raises:
        UserError: The profile is wrong.
        PreflightError: The GPUs cannot be counted.
    """
    if not choice.dry_run:
        return []
    kinds: dict[tuple[str, str, str], Cell] = {}
    for cell in todo:
        request = cell.request
        if request.batch_size_per_device:
            kinds.setdefault((request.spec.task, request.recipe, request.spec.backbone), cell)
    lines = [_line(choice, cell, gpu, len(todo)) for cell in list(kinds.values())[:_SHOWN]]
    more = len(kinds) - _SHOWN
    return [*lines, f"and {more} more kinds of training"] if more > 0 else lines


def _line(choice: HowToRun, cell: Cell, gpu: bool, runs: int) -> str:
    request = cell.request
    processes, cores = _processes(choice, request.spec.task, runs)
    images, why = _held(request, processes, gpu)
    size = request.spec.batch_size
    micro = size // (processes * images)
    shared = f"{processes} processes x {micro} micro-batches x {images} images"
    parts = [f"{size} images a step = {shared}{why}"]
    if (gib := _memory(request, images, gpu, choice)) is not None:
        parts.append(gib)
    loaders = worker_choice()
    loaders = loaders_of(cores, gpu=gpu) if loaders is None else loaders
    parts.append(f"{loaders} loader processes each")
    if cell.estimate is not None and cell.estimate.device_seconds:
        rate = processes * request.num_images / cell.estimate.device_seconds
        basis = (
            "measured in earlier runs"
            if cell.estimate.basis == "measured"
            else "guessed from FLOPs"
        )
        parts.append(f"about {rate:,.0f} images/s ({basis})")
    return f"{request.spec.task} {request.recipe}, {request.spec.backbone}: {'; '.join(parts)}"


def _processes(choice: HowToRun, task: str, runs: int) -> tuple[int, int]:
    """Return the number of processes of a run, and the cores of each."""
    if choice.executor == "slurm":
        shape = read_cluster(choice.cluster).shape_of(task)
        return shape.world_size, shape.cpus
    processes = choice.processes or 1
    if chosen_executor(choice) != "local":
        return processes, usable_cores()
    return processes, divide(runs, choice.jobs, processes)[0].cores or usable_cores()


def _held(request: RunRequest, processes: int, gpu: bool) -> tuple[int, str]:
    """Return how many images a process will hold at once, and a word on where that comes from."""
    task = get_task(request.spec.task)
    config = config_of(request, task)
    backbone = get_spec(request.spec.backbone, request.plugins)
    held = task.held(config, backbone)
    if held is None:
        return request.batch_size_per_device, ""
    share = request.spec.batch_size // processes
    if held.compared:
        return held.compared // processes, " (compared at once)"
    if config.schedule.micro_batch:
        return config.schedule.micro_batch, " (as asked)"
    choices = held.choices(share) or [held.by_recipe]
    if not gpu or len(choices) == 1:
        return next((n for n in choices if n <= held.by_recipe), choices[-1]), ""
    need, total = need_of(backbone, request.spec.recipe, request.spec.precision), gpu_memory_gib()
    if need is None or total is None:
        return next(
            (n for n in choices if n <= held.by_recipe), choices[-1]
        ), " (or as many as fit)"
    fitting = next((n for n in choices if need.gib(n) <= _FILLED * total), choices[-1])
    return fitting, " (estimated; measured when it starts)"


def _memory(request: RunRequest, images: int, gpu: bool, choice: HowToRun) -> str | None:
    try:
        backbone = get_spec(request.spec.backbone, request.plugins)
    except UserError:
        return None
    need = need_of(backbone, request.spec.recipe, request.spec.precision)
    if need is None:
        return None
    total = memory_gib() if not gpu else None if choice.executor == "slurm" else gpu_memory_gib()
    of = f" of {total:.0f}" if total else ""
    return f"about {need.gib(images):.1f}{of} GiB a process (estimated)"
