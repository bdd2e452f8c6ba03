"""The pixels of an annotated image: decoded, upright, in RGB, at the size that is stated.

Some annotation tools apply the EXIF orientation of an image and some do not. The stated size tells
which, unless the orientation keeps the size (180 degrees, mirrored, any of a square image). There
the images of the same set whose size tells decide.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from backbones.base.errors import PreflightError
from backbones.base.grey import BY_IMAGE, GreyScale
from backbones.base.images import open_stored, to_rgb, turn


@dataclass(frozen=True)
class Orientations:
    """Images of a set with an EXIF orientation, by what their annotations' size says of it.

    Attributes:
        stored: Number of images that are annotated as stored.
        displayed: Number of images that are annotated as displayed.
        untold: Names of images whose size is the same both ways.
    """

    stored: int
    displayed: int
    untold: tuple[str, ...]

    @property
    def as_stored(self) -> bool:
        """Whether the images whose size does not tell are read as stored."""
        return bool(self.untold) and self.stored > 0 and not self.displayed

    def note(self) -> str:
        """Say how the images are read where the sizes do not make it plain, empty where they do."""
        mixed = self.stored > 0 and self.displayed > 0
        count = self.stored + self.displayed + len(self.untold)
        both = f"state the stored size of {self.stored} and the displayed size of {self.displayed}"
        if not self.untold:
            whole = f"The annotations {both} of {count} images with an EXIF orientation"
            return f"{whole}; each is read as its size states." if mixed else ""
        if self.displayed and not mixed:
            return ""
        found = (
            f"{len(self.untold)} of {count} images with an EXIF orientation have the same size as "
            f"stored and as displayed (first: {self.untold[0]})"
        )
        if self.as_stored:
            return (
                f"{found}; they are read as stored, because the stored size of the rest is stated."
            )
        why = (
            f"the annotations {both} of the rest"
            if mixed
            else "no other image tells which is meant"
        )
        return (
            f"{found} and {why}, so they are read as displayed, as detectron2 does; check that "
            "their boxes fit."
        )


def pixels_of(image: Mapping[str, Any]) -> Image.Image:
    """Return the image of a dataset dict (``detection.data.dataset``) as ``read_image`` does.

    Args:
        image: Has ``file_name``, ``height``, ``width`` and, where the set needs it, ``grey`` and
            ``as_stored``.

    Raises:
        PreflightError: As in ``read_image``.
    """
    return read_image(
        image["file_name"],
        image["height"],
        image["width"],
        image.get("grey", BY_IMAGE),
        as_stored=image.get("as_stored", False),
    )


def read_image(
    path: Path | str,
    height: int,
    width: int,
    grey: GreyScale = BY_IMAGE,
    *,
    as_stored: bool = False,
) -> Image.Image:
    """Decode an image to RGB, upright, at the size that the annotations state.

    The EXIF orientation is applied, as detectron2 does. Where only the stored, unturned pixels
    have the stated size, the annotations were made on those, and they are used.

    Args:
        path: The file; grey, palette, CMYK, 16-bit and transparent images become RGB.
        height: Stated by the annotations, in pixels.
        width: Stated by the annotations, in pixels.
        grey: How 16-bit and 32-bit images of its set become 8 bits.
        as_stored: Use the stored pixels where those and the upright ones have the stated size.

    Raises:
        PreflightError: The file is absent, damaged, no image, or of another size.
    """
    try:
        stored = open_stored(Path(path).read_bytes())
        upright = turn(stored)
        for image in (stored, upright) if as_stored else (upright, stored):
            if image.size == (width, height):
                return to_rgb(image, grey)
    except FileNotFoundError as error:
        raise PreflightError(f"The image {path} is missing.") from error
    except (OSError, ValueError) as error:
        raise PreflightError(
            f"The image {path} cannot be decoded ({error}); replace the file."
        ) from error
    raise PreflightError(
        f"The image {path} has {upright.width} x {upright.height} pixels, but its annotations "
        f"say {width} x {height}; the file or the annotations belong to another data set."
    )
