"""Where a run computes: device, threads, and its share among processes."""

import os

import torch
from detectron2.engine import create_ddp_model
from detectron2.utils import comm
from torch import nn

from backbones.distributed import join_process_group, leave_process_group, world_size


def join() -> torch.device:
    """Join the processes of the run, if it has several, and return this one's device.

    detectron2 wants its group of local processes besides torch's.
    """
    join_process_group()
    if world_size() > 1 and comm._LOCAL_PROCESS_GROUP is None:
        comm.create_local_process_group(int(os.environ.get("LOCAL_WORLD_SIZE", world_size())))
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", comm.get_local_rank() % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def leave() -> None:
    """Undo ``join``."""
    leave_process_group()
    comm._LOCAL_PROCESS_GROUP = None


def choose_threads(device: torch.device, num_workers: int) -> int:
    """Set torch's threads to the cores that loader processes leave, and return their number.

    More threads than free cores do not slow a CPU run down a little but many times: threads that
    wait at a barrier spin (measured: 3 to 40 times). On a GPU one thread feeds the device. Who
    sets OMP_NUM_THREADS, as the sweep's launcher does, has chosen already.

    Args:
        device: Where the network runs.
        num_workers: Loader processes beside this one.
    """
    if os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        return torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) // _processes_here()
    threads = 1 if device.type == "cuda" else max(1, cores - num_workers)
    torch.set_num_threads(threads)
    return threads


def wrap(detector: nn.Module, device: torch.device) -> nn.Module:
    """Return the detector ready for gradients from all processes; itself when alone.

    Args:
        detector: On ``device``.
        device: detectron2 has to be told explicitly that a CPU has no number.
    """
    device_ids = [device.index] if device.type == "cuda" else None
    wrapped: nn.Module = create_ddp_model(detector, device_ids=device_ids, broadcast_buffers=False)
    return wrapped


def _processes_here() -> int:
    return min(world_size(), int(os.environ.get("LOCAL_WORLD_SIZE", world_size())))
