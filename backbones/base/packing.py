"""Many tensors as one: what a loader process sends through a single shared file."""

import io
import pickle
import resource
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Tensors begin at multiples of this, which suits every type and vector instruction.
_ALIGNMENT = 64
# Enough for every loader; a much higher limit slows programs that close all possible files.
_FILES = 65_536


class Packed:
    """An item whose tensors lie in one buffer, which is all that has to be shared or pinned."""

    def __init__(self, text: bytes, buffer: Tensor, places: Sequence[tuple[Any, ...]]) -> None:
        """Hold the parts.

        Args:
            text: The item without its tensors.
            buffer: Bytes of all tensors.
            places: Of each tensor: first byte, type, shape.
        """
        self._text = text
        self._buffer = buffer
        self._places = places

    def pin_memory(self) -> "Packed":
        """Return the same in memory that a GPU can copy from; torch's loader asks for it."""
        return Packed(self._text, self._buffer.pin_memory(), self._places)

    def unpack(self) -> Any:
        """Return the item; its tensors are parts of the buffer."""
        return _Unpickler(io.BytesIO(self._text), list(map(self._tensor, self._places))).load()

    def _tensor(self, place: tuple[Any, ...]) -> Tensor:
        start, kind, shape = place
        size = kind.itemsize * torch.Size(shape).numel()
        return self._buffer[start : start + size].view(kind).view(shape)


def pack(item: Any) -> Packed:
    """Return an item with its tensors in one buffer.

    Args:
        item: Picklable; tensors anywhere inside it, on the CPU.
    """
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(item)
    places, end = [], 0
    for tensor in pickler.tensors:
        places.append((end, tensor.dtype, tuple(tensor.shape)))
        end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
    buffer = torch.empty(end, dtype=torch.uint8)
    for tensor, (start, _, _) in zip(pickler.tensors, places, strict=True):
        buffer[start : start + tensor.nbytes] = tensor.contiguous().view(-1).view(torch.uint8)
    return Packed(file.getvalue(), buffer, places)


class _Pickler(pickle.Pickler):
    """Leaves tensors out, and collects them."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors: list[Tensor] = []
        self._numbers: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> int | None:
        """Return a tensor's number; None for everything else."""
        if type(obj) is not Tensor or obj.device.type != "cpu" or obj.layout != torch.strided:
            return None
        # The item, which is there until it is pickled, keeps the ids from being given again.
        number = self._numbers.setdefault(id(obj), len(self.tensors))
        if number == len(self.tensors):
            self.tensors.append(obj.detach())
        return number


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, tensors: Sequence[Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, pid: int) -> Tensor:
        """Return the tensor of a number."""
        return self._tensors[pid]


def allow_open_files() -> None:
    """Let this process, and those that it starts, open as many files as the system permits.

    Each buffer of a loader process is an open file; many systems begin at 1,024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
