"""Features on disk: blocks of rows, each a file with a checksum beside it, read where they lie.

A block is the unit of everything: it is written whole or not at all, a run that stopped goes on
with the first one that is missing, several processes take different ones, and damage costs one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import numpy.typing as npt
import torch
from msgspec import Struct
from torch import Tensor

from backbones.base.files import atomic_file, sha256_file
from backbones.base.json_files import JsonFormat, UnreadableFileError
from benchmarks.labelled.features.features import Layout

# Images a block: at most these are looked at again after a stop. A block of ViT-B is 55 MB.
ROWS = 2048

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FeatureBlock:
    """A sound block.

    Attributes:
        rows: (n, width), memory-mapped.
        unreadable: By row, where each image lies that could not be read, and why.
    """

    rows: Rows
    unreadable: Mapping[int, str]


class _BlockRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the JSON file next to a block."""

    sha256: str
    unreadable: dict[str, str]


_FORMAT = JsonFormat(_BlockRecord, "record of a block of features")


class BlockFolder:
    """The blocks of one table.

    Args:
        folder: Made when first written to.
        num_rows: Of the whole table.
        width: Columns.
    """

    def __init__(self, folder: Path, num_rows: int, width: int) -> None:
        self.folder = folder
        self.num_rows = num_rows
        self.width = width

    def __len__(self) -> int:
        """Return the number of blocks."""
        return -(-self.num_rows // ROWS)

    def indices(self, number: int) -> range:
        """Return the rows of the table that a block holds."""
        return range(number * ROWS, min((number + 1) * ROWS, self.num_rows))

    def lock(self, number: int) -> filelock.FileLock:
        """Return the lock of a block: one process makes it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(self._file(number).with_suffix(".lock"), timeout=0)

    def write(self, number: int, rows: Rows, unreadable: Mapping[int, str]) -> None:
        """Write a block, then its checksum.

        Raises:
            PreflightError: The disk is full, or the folder cannot be written.
        """
        path = self._file(number)
        with atomic_file(path) as file:
            np.save(file, rows, allow_pickle=False)
        bad = {str(row): text for row, text in unreadable.items()}
        _FORMAT.write(path.with_suffix(".json"), _BlockRecord(sha256_file(path), bad))

    def read(self, number: int) -> FeatureBlock | None:
        """Return a block, None where there is none that is sound."""
        path = self._file(number)
        try:
            record = _FORMAT.read(path.with_suffix(".json"))
            if sha256_file(path) != record.sha256:
                return None
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
            bad = {int(row): text for row, text in record.unreadable.items()}
        except (OSError, ValueError, UnreadableFileError):
            return None
        if not all(0 <= row < len(rows) for row in bad):
            return None
        fits = rows.shape == (len(self.indices(number)), self.width)
        return FeatureBlock(rows, bad) if fits and rows.dtype == np.float32 else None

    def has(self, number: int) -> bool:
        """Tell whether a block was finished, sound or not."""
        return self._file(number).with_suffix(".json").exists()

    def _file(self, number: int) -> Path:
        return self.folder / f"block-{number:05d}.npy"


class FeatureTable:
    """The features of the readable images of a set.

    Attributes:
        layout: Which columns hold what.
        indices: (N,) numbers of the readable images in their set, ascending.
        unreadable: Where each of the others lies, and why it could not be read.
    """

    def __init__(self, layout: Layout, blocks: Sequence[FeatureBlock]) -> None:
        """Join blocks in order."""
        self.layout = layout
        self._blocks = blocks
        good = np.ones(sum(len(block.rows) for block in blocks), dtype=bool)
        unreadable: list[str] = []
        for number, block in enumerate(blocks):
            good[[number * ROWS + row for row in block.unreadable]] = False
            unreadable += block.unreadable.values()
        self.indices: npt.NDArray[np.int64] = np.flatnonzero(good)
        self.unreadable = tuple(unreadable)

    def __len__(self) -> int:
        """Return the number of readable images."""
        return len(self.indices)

    def rows(self, kind: str, places: npt.NDArray[np.int64]) -> Tensor:
        """Return the features of some images, (n, width of the kind) float32.

        Args:
            kind: Of features.
            places: (n,) numbers among the readable images.
        """
        wanted = self.indices[places]
        ranges = self.layout.columns(kind)
        found = np.empty((len(wanted), self.layout.width_of(kind)), dtype=np.float32)
        numbers = wanted // ROWS
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            rows = self._blocks[number].rows
            column = 0
            for start, end in ranges:
                taken = rows[wanted[here] - number * ROWS, start:end]
                found[here, column : column + end - start] = taken
                column += end - start
        return torch.from_numpy(found)

    def all_rows(self, kind: str) -> Tensor:
        """Return the features of all readable images, (N, width of the kind) float32."""
        return self.rows(kind, np.arange(len(self)))
