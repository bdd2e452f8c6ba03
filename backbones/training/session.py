"""What surrounds the loop in every training run: processes, a card, TensorBoard's files, costs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from backbones.base import devices
from backbones.base.distributed import leave_process_group, rank
from backbones.base.monitor import FollowerMonitor, Monitor
from backbones.training.engine import Training
from backbones.training.fitted import Fitted
from backbones.training.optim import ParameterGroup
from backbones.training.reporter import ScalarWriter

# Folder of its files, within the run's.
TENSORBOARD = "tensorboard"


@contextmanager
def joined(monitor: Monitor) -> Iterator[tuple[torch.device, Monitor]]:
    """Join the processes of the run, if it has several, and leave them at the end.

    Args:
        monitor: To report to, and to be asked whether to stop.

    Yields:
        This process's device, and its monitor, which reports nothing but on the first process.
    """
    device = devices.join()
    try:
        yield device, monitor if rank() == 0 else FollowerMonitor(monitor)
    finally:
        leave_process_group()


@contextmanager
def scalar_writer(out_dir: Path) -> Iterator[ScalarWriter | None]:
    """Open TensorBoard's files in a run's folder, on the first process; None on the others."""
    if rank() > 0:
        yield None
        return
    writer = SummaryWriter(str(out_dir / TENSORBOARD))
    try:
        yield writer
    finally:
        writer.close()


def card_of(
    training: Training,
    groups: Sequence[ParameterGroup],
    threads: int,
    num_workers: int,
    *,
    couples_images: bool = False,
    held_as: str = "",
) -> dict[str, Any]:
    """Return what was decided for the user about any training, in words.

    Args:
        training: About to run.
        groups: What its optimizer works on.
        threads: Of this process.
        num_workers: Loader processes beside it.
        couples_images: Losses compare the images of a micro-batch with one another.
        held_as: Why a device holds this number of images at once.
    """
    share = training.share
    why = f" ({held_as})" if held_as else ""
    device = next(training.objective.parameters()).device.type
    return {
        "plan": training.plan.lines(),
        "batch": f"{share.about(couples_images)}{why}, {training.schedule.precision}",
        "device": f"{share.world_size} x {device}, {threads} threads, "
        f"{num_workers} loader processes",
        "groups": [group.line() for group in groups],
    }


def cost_of(fitted: Fitted, module: nn.Module) -> dict[str, float | None]:
    """Return what a training cost, by name.

    Args:
        fitted: How it went.
        module: All that was trained, frozen parts included.
    """
    return {
        "images_per_second_train": fitted.images_per_second,
        "loader_wait_percent": 100 * fitted.wait_share,
        "parameters_millions": parameters_millions(module),
        "peak_memory_gib": devices.peak_memory_gib(),
        "seconds": fitted.seconds,
    }


def parameters_millions(module: nn.Module) -> float:
    """Return the number of parameters in millions."""
    return sum(p.numel() for p in module.parameters()) / 1e6
