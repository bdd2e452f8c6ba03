"""Encoded images of any kind to upright RGB, or the reason why not."""

import io
import re
import struct
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps

# What Pillow raises for a damaged file depends on format and place of the damage.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"})


def decode(content: bytes) -> Image.Image:
    """Decode an image to RGB, upright.

    Args:
        content: The file's bytes; grey, palette, CMYK, 16-bit and transparent images become RGB.

    Raises:
        ValueError: It is damaged or no image; the message says how.
    """
    return to_rgb(turn(open_stored(content)))


def open_stored(content: bytes) -> Image.Image:
    """Decode an image as it is stored: not turned, in its own mode.

    Raises:
        ValueError: It is damaged or no image; the message says how.
    """
    try:
        with warnings.catch_warnings():
            # Large photographs and odd metadata are the user's; a bomb still raises an error.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content))
            image.load()
    except DAMAGE as error:
        # Pillow names the buffer by its address, which would differ in every run's record.
        words = re.sub(r" <_io\.BytesIO object at \w+>", "", str(error))
        raise ValueError(words or type(error).__name__) from error
    return image


def turn(image: Image.Image) -> Image.Image:
    """Return the image as its EXIF orientation asks; damaged EXIF data counts as none."""
    try:
        # exif_transpose copies an image that needs no turn.
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except DAMAGE:
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a decoded image of any mode as RGB.

    Raises:
        ValueError: Its pixels are floating-point numbers of unknown range.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values at 255, which leaves a white image.
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((values.clip(0, 65_535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels of unknown range; save it with 8 bits")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
