"""Where a detection run computes: as any run, and as detectron2 wants to be told."""

import os

import torch
from detectron2.utils import comm

from backbones import devices
from backbones.distributed import leave_process_group, world_size


def join() -> torch.device:
    """Join the processes of the run, if it has several, and return this one's device.

    detectron2 wants its group of local processes besides torch's.
    """
    device = devices.join()
    if world_size() > 1 and comm._LOCAL_PROCESS_GROUP is None:
        comm.create_local_process_group(int(os.environ.get("LOCAL_WORLD_SIZE", world_size())))
    return device


def leave() -> None:
    """Undo ``join``."""
    leave_process_group()
    comm._LOCAL_PROCESS_GROUP = None
