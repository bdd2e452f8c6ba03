"""Image files of any kind to RGB, or one sentence that names the file."""

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from backbones.errors import PreflightError

# What Pillow raises for a damaged file depends on format and place of the damage.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error)


def read_image(path: Path | str, height: int, width: int) -> Image.Image:
    """Decode an image to RGB, upright, at the size that the annotations state.

    The EXIF orientation is applied, as detectron2 does. Where only the stored, unturned pixels
    have the stated size, the annotations were made on those, and they are used.

    Args:
        path: The file; grey, palette, CMYK, 16-bit and transparent images become RGB.
        height: Stated by the annotations, in pixels.
        width: Stated by the annotations, in pixels.

    Raises:
        PreflightError: The file is absent, damaged, no image, or of another size.
    """
    stored = _decode(path)
    upright = _turn(stored)
    for image in (upright, stored):
        if image.size == (width, height):
            return _to_rgb(image, path)
    raise PreflightError(
        f"The image {path} has {upright.width} x {upright.height} pixels, but its annotations "
        f"say {width} x {height}; the file or the annotations belong to another data set."
    )


def _decode(path: Path | str) -> Image.Image:
    try:
        with Path(path).open("rb") as file, warnings.catch_warnings():
            # Large photographs and odd metadata are the user's; a bomb still raises an error.
            warnings.simplefilter("ignore")
            image = Image.open(file)
            image.load()
    except FileNotFoundError as error:
        raise PreflightError(f"The image {path} is missing.") from error
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise PreflightError(
            f"The image {path} cannot be decoded ({error}); replace the file."
        ) from error
    return image


def _turn(image: Image.Image) -> Image.Image:
    """Return the image as its EXIF orientation asks; damaged EXIF data counts as none."""
    try:
        # exif_transpose copies an image that needs no turn.
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except _DAMAGE:
        return image


def _to_rgb(image: Image.Image, path: Path | str) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values at 255, which leaves a white image.
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((values.clip(0, 65_535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise PreflightError(
            f"The image {path} has floating-point pixels of unknown range; save it with 8 bits."
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
