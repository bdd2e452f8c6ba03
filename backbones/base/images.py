"""Encoded images of any kind to upright RGB, or the reason why not."""

import io
import re
import struct
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps, features

# What Pillow raises for a damaged file depends on format and place of the damage.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)

# What Pillow reads, as far as it was built with the libraries.
_COMMON = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".webp", ".tif", ".tiff", ".gif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".tga",
)  # fmt: skip
_JPEG_2000 = (".jp2", ".j2k", ".jpx") if features.check("jpg_2000") else ()
_AVIF = (".avif",) if "avif" in features.modules and features.check("avif") else ()
SUFFIXES = frozenset((*_COMMON, *_JPEG_2000, *_AVIF))
# Images that cannot be read here: a folder that holds such has more images than are used.
UNREAD_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl", ".svg", ".dcm", ".npy", ".npz",
     ".psd", ".raw", ".cr2", ".nef", ".dng", ".exr", ".hdr"}
) - SUFFIXES  # fmt: skip
# Levels of grey that cameras and microscopes fill of a file's 16 or 32 bits.
_GREY_BITS = (8, 12, 16)


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
        values = np.asarray(image).astype(np.int64).clip(min=0)
        shift = grey_bits(int(values.max(initial=0))) - 8
        return Image.fromarray((values >> shift).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels of unknown range; save it with 8 bits")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def grey_bits(largest: int) -> int:
    """Return how many bits of a deep grey image are used.

    No header says it, so its largest value does: up to 255 it holds 8 bits, up to 4,095 the 12 of
    thermal cameras and microscopes, up to 65,535 16 bits, else as many as that value takes.

    Args:
        largest: Value of the image.
    """
    known = [bits for bits in _GREY_BITS if largest < 1 << bits]
    return known[0] if known else largest.bit_length()
