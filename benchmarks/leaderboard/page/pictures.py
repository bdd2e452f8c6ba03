"""Pictures that runs drew, small enough for a page."""

import base64
import hashlib
import io
import os
import re
from pathlib import Path

from PIL import Image

from backbones.base.files import read_plain
from benchmarks.store.folders import RunFolder
from benchmarks.store.record import RunFile, RunRecord

# Bytes of all runs' pictures in one page.
_BUDGET = 300_000
_OF_A_RUN = 3
_LONGEST_SIDE = 560
_QUALITY = 55
# Larger files are no pictures of ours.
_MAX_FILE_BYTES = 20 * 2**20
_MAX_PIXELS = 30_000_000
_STEP = re.compile(r"-?\d+$")


class Album:
    """Takes pictures in until they fill their share of the page."""

    def __init__(self) -> None:
        self._left = _BUDGET

    def of_run(self, folder: RunFolder, record: RunRecord) -> list[dict[str, str]]:
        """Return the last picture of each kind that a run drew: title, data, reason.

        Args:
            folder: Of the run.
            record: Names the files and their checksums.
        """
        last: dict[str, RunFile] = {}
        for file in record.files:
            path = Path(file.path)
            if path.suffix == ".png":
                last[_STEP.sub("", path.stem)] = file
        return [self._picture(folder, title, file) for title, file in [*last.items()][:_OF_A_RUN]]

    def _picture(self, folder: RunFolder, title: str, file: RunFile) -> dict[str, str]:
        full = {"title": title, "reason": f"no room in this page; it is in {file.path}"}
        if self._left <= 0:
            return full
        try:
            data = thumbnail(_read(folder.path, file))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            return {"title": title, "reason": f"not shown: {error}"}
        # Below zero nothing more is tried: making all to find one that fits would take minutes.
        self._left -= len(data)
        return full if self._left < 0 else {"title": title, "data": data}


def thumbnail(content: bytes) -> str:
    """Return a picture as a ``data:`` address of a small WebP.

    Args:
        content: Of a picture file.

    Raises:
        OSError: It is no picture.
        ValueError: It is too large to be one of ours.
    """
    with Image.open(io.BytesIO(content)) as opened:
        refuse_large(opened.width, opened.height)
        return as_webp(opened.convert("RGB"))


def refuse_large(width: int, height: int) -> None:
    """Refuse an image that takes long to decode.

    Args:
        width: In pixels.
        height: In pixels.

    Raises:
        ValueError: It has too many pixels.
    """
    if width * height > _MAX_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels")


def as_webp(image: Image.Image, longest_side: int = _LONGEST_SIDE) -> str:
    """Return an RGB image as a ``data:`` address of a small WebP.

    Args:
        image: Of any size; it is made smaller in place.
        longest_side: In pixels, of the result.
    """
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _read(folder: Path, file: RunFile) -> bytes:
    """Return a file that a record names, provided it lies in the run's folder and is unchanged."""
    # Path.resolve raises RuntimeError for a link to itself.
    path = Path(os.path.realpath(folder / file.path))
    if not path.is_relative_to(os.path.realpath(folder)):
        raise ValueError("its path leads out of the run's folder")
    content = read_plain(path, _MAX_FILE_BYTES)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ValueError("the file is not the one the run wrote")
    return content
