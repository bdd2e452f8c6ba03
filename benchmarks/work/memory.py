"""What a run learns of its GPU's memory: how many images it holds at once in its next start."""

import gc
import sys
from contextlib import suppress
from typing import Annotated

from msgspec import Meta, Struct

from backbones.base.errors import DeviceFullError
from backbones.base.json_files import JsonFormat, UnreadableFileError
from benchmarks.store.folders import RunFolder

# If two halvings do not help, something other than the number of images is the reason.
HALVINGS = 2


class _Fitted(Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the file.

    Attributes:
        micro_batch: Images to hold at once.
        halved: How often the number was halved.
    """

    micro_batch: Annotated[int, Meta(ge=1)]
    halved: Annotated[int, Meta(ge=1)]


_FORMAT = JsonFormat(_Fitted, "number of images that fit a GPU")
_FILE = "micro-batch.json"


def fitted_overrides(folder: RunFolder) -> list[str]:
    """Return ``--set`` texts with what earlier starts of a run learned."""
    found = _read(folder)
    return [] if found is None else [f"schedule.micro_batch={found.micro_batch}"]


def learn(folder: RunFolder, error: DeviceFullError) -> str:
    """Note that fewer images fit, and return a sentence on it; empty where it was halved enough.

    Args:
        folder: Of the run.
        error: Says how many.
    """
    before = _read(folder)
    halved = 1 + (before.halved if before is not None else 0)
    if halved > HALVINGS:
        return ""
    _FORMAT.write(folder.work / _FILE, _Fitted(error.fewer, halved))
    return f"The GPU ran out of memory; the run goes on with {error.fewer} images at once."


def release_memory() -> None:
    """Give back what an earlier start in this process took of a GPU."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _read(folder: RunFolder) -> _Fitted | None:
    with suppress(UnreadableFileError):
        return _FORMAT.read(folder.work / _FILE)
    return None
