"""Pictures of what an objective sees and does, as PNG and in TensorBoard."""

import re
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from backbones.base.files import atomic_file
from backbones.training.objective import Batch, Objective
from backbones.training.pixels import Pixels

# Images that a picture shows, one a row.
NUM_ROWS = 4

_GAP = 2
_WHITE = 255


class PictureTaker:
    """Takes the same few images through the objective at every call."""

    def __init__(
        self, objective: Objective, pixels: Pixels, batch: Batch, folder: Path, writer: Any
    ) -> None:
        """Set up.

        Args:
            objective: Says what there is to see.
            pixels: To and from normalised values.
            batch: Of ``NUM_ROWS`` images, as the loader gives it.
            folder: For PNG files.
            writer: TensorBoard's, or None.
        """
        self._objective = objective
        self._pixels = pixels
        self._batch = batch
        self._folder = folder
        self._writer = writer

    def take(self, step: int) -> list[Path]:
        """Write the pictures of the objective as it is after ``step`` steps; return the files."""
        training = self._objective.training
        self._objective.eval()
        with torch.no_grad():
            found = self._objective.pictures(self._pixels.ready(self._batch))
        self._objective.train(training)
        paths = []
        for title, rows in found.items():
            image = grid(self._pixels.restore(rows.detach()).cpu())
            path = self._folder / f"{_file_name(title)}-{step:08d}.png"
            write_png(path, image)
            paths.append(path)
            if self._writer is not None:
                self._writer.add_image(title, image, step, dataformats="CHW")
        return paths


def grid(rows: Tensor) -> Tensor:
    """Return (rows, columns, 3, H, W) uint8 as one picture (3, height, width), white between."""
    num_rows, num_columns, channels, height, width = rows.shape
    size = (num_rows * (height + _GAP) + _GAP, num_columns * (width + _GAP) + _GAP)
    picture = torch.full((channels, *size), _WHITE, dtype=torch.uint8)
    for i in range(num_rows):
        for j in range(num_columns):
            top, left = _GAP + i * (height + _GAP), _GAP + j * (width + _GAP)
            picture[:, top : top + height, left : left + width] = rows[i, j]
    return picture


def write_png(path: Path, picture: Tensor) -> None:
    """Write (3, H, W) uint8 as a PNG file, atomically.

    Raises:
        PreflightError: The folder cannot be written.
    """
    image = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
    with atomic_file(path) as file:
        image.save(file, format="PNG")


def _file_name(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
