"""Loader processes that outlive signals to the whole job and speak in sentences."""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from backbones.base.errors import UserError
from backbones.base.packing import Packed, allow_open_files, pack

Item = TypeVar("Item")
Key = TypeVar("Key")

# Batches that a worker prepares ahead.
_PREFETCH = 2
# A cluster sends these to all processes of a job, but only the main one knows what to do.
_NOT_FOR_WORKERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def make_in_workers(
    make: Callable[[Key], Item], keys: Iterable[Key], num_workers: int, pin_memory: bool = False
) -> Iterator[Item]:
    """Yield ``make(key)`` for each key, in order.

    Args:
        make: Picklable.
        keys: May be endless.
        num_workers: Processes that do the work ahead of time; 0 works in this one.
        pin_memory: Put tensors into memory that a GPU can copy from while it computes.

    Raises:
        UserError: ``make`` raised it, in whatever process.
    """
    with warnings.catch_warnings():
        # More workers than cores is the user's decision.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader: DataLoader[Item | Packed | UserError] = DataLoader(
            _Told(make, packs=num_workers > 0),
            batch_size=None,
            sampler=keys,
            num_workers=num_workers,
            prefetch_factor=_PREFETCH if num_workers else None,
            collate_fn=_as_it_is,
            worker_init_fn=_start_worker if num_workers else None,
            # Its own generator: the default one belongs to the model.
            generator=torch.Generator().manual_seed(0),
            pin_memory=pin_memory,
        )
        if num_workers:
            allow_open_files()
        # Workers inherit the blocked signals, so there is no moment at which Ctrl-C could hit them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_WORKERS if num_workers else ())
        try:
            iterator = iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        for item in iterator:
            if isinstance(item, UserError):
                raise item
            yield item.unpack() if isinstance(item, Packed) else item
    finally:
        # Ends the workers: whoever keeps the error would keep this frame and so them, with every
        # pipe of this process that they inherited.
        del iterator


class _Told(Dataset[Any], Generic[Key, Item]):
    """Makes items, with a user's mistake as a value.

    An exception that leaves a worker process is wrapped in its stack trace by torch.
    """

    def __init__(self, make: Callable[[Key], Item], *, packs: bool) -> None:
        self._make = make
        self._packs = packs

    def __getitem__(self, key: Key) -> Item | Packed | UserError:
        try:
            made = self._make(key)
        except UserError as error:
            return error
        return pack(made) if self._packs else made


def _as_it_is(item: Any) -> Any:
    return item


def _start_worker(worker: int) -> None:
    """Keep a worker alive through signals to the whole job; let only its parent end it.

    The signals stay blocked; a thread waits for SIGTERM, which torch sends to end a worker.
    """
    del worker
    signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_WORKERS)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
