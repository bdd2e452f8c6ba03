"""The pixels of an annotated image: decoded, upright, in RGB, at the size that is stated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from backbones.base.errors import PreflightError
from backbones.base.grey import BY_IMAGE, GreyScale
from backbones.base.images import open_stored, to_rgb, turn


def pixels_of(image: Mapping[str, Any]) -> Image.Image:
    """Return the image of a dataset dict (``detection.data.dataset``) as ``read_image`` does.

    Args:
        image: Has ``file_name``, ``height``, ``width`` and, where the set needs it, ``grey``.

    Raises:
        PreflightError: As in ``read_image``.
    """
    return read_image(
        image["file_name"], image["height"], image["width"], image.get("grey", BY_IMAGE)
    )


def read_image(
    path: Path | str, height: int, width: int, grey: GreyScale = BY_IMAGE
) -> Image.Image:
    """Decode an image to RGB, upright, at the size that the annotations state.

    The EXIF orientation is applied, as detectron2 does. Where only the stored, unturned pixels
    have the stated size, the annotations were made on those, and they are used.

    Args:
        path: The file; grey, palette, CMYK, 16-bit and transparent images become RGB.
        height: Stated by the annotations, in pixels.
        width: Stated by the annotations, in pixels.
        grey: How 16-bit and 32-bit images of its set become 8 bits.

    Raises:
        PreflightError: The file is absent, damaged, no image, or of another size.
    """
    try:
        stored = open_stored(Path(path).read_bytes())
        upright = turn(stored)
        for image in (upright, stored):
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
