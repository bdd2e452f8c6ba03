"""Encoded images of any kind to upright RGB, or the reason why not."""

import io
import re
import struct
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps, features

from backbones.base.grey import BY_IMAGE, GreyScale, to_8_bits

# What Pillow raises for a damaged file depends on format and place of the damage. Its DDS reader
# raises NotImplementedError, others an IndexError, KeyError or TypeError.
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError,
    RuntimeError, LookupError, TypeError, ArithmeticError, AssertionError,
)  # fmt: skip

# What Pillow reads, as far as it was built with the libraries.
_COMMON = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".webp", ".tif", ".tiff", ".gif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".tga",
)  # fmt: skip
_JPEG_2000 = (".jp2", ".j2k", ".jpx") if features.check("jpg_2000") else ()
_AVIF = (".avif",) if "avif" in features.modules and features.check("avif") else ()
SUFFIXES = frozenset((*_COMMON, *_JPEG_2000, *_AVIF))
# Formats whose files hold stacks and animations.
_WITH_FRAMES = ("TIFF", "GIF", "WEBP", "PNG")
# Images that cannot be read here: a folder that holds such has more images than are used.
UNREAD_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl", ".svg", ".dcm", ".npy", ".npz",
     ".psd", ".raw", ".cr2", ".nef", ".dng", ".exr", ".hdr"}
) - SUFFIXES  # fmt: skip
# EXIF orientations of images that are displayed mirrored or rotated; 1 is as stored.
_TURNED = range(2, 9)
# First bytes of files of other kinds than the images above, in lower case.
_MARKS = (
    (b"ftypavif", "its content is AVIF"),
    (b"ftypavis", "its content is AVIF"),
    (b"ftyphei", "its content is HEIC"),
    (b"ftyphev", "its content is HEIC"),
    (b"ftypmif1", "its content is HEIF"),
    (b"jxl ", "its content is JPEG XL"),
    (b"dds ", "its content is DDS"),
    (b"%pdf", "its content is PDF"),
    (b"<svg", "its content is SVG"),
    (b"<!doctype html", "its content is a web page"),
    (b"<html", "its content is a web page"),
    (b"https://git-lfs", "its content is a pointer of Git LFS, not the image"),
)


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
        words = re.sub(r" <_io\.BytesIO object at \w+>", "", str(error)) or type(error).__name__
        kind = _kind_of(content)
        raise ValueError(f"{kind}: {words}" if kind else words) from error
    return image


def _kind_of(content: bytes) -> str:
    """Return what a file is by its first bytes, for what is often found under a wrong suffix."""
    if not content:
        return "the file is empty"
    start = content[:64].lstrip().lower()
    return next((what for mark, what in _MARKS if mark in start), "")


def turn(image: Image.Image) -> Image.Image:
    """Return the image as its EXIF orientation asks, the image itself where it asks for no turn.

    Damaged EXIF data counts as none.
    """
    try:
        # exif_transpose copies an image that needs no turn.
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
        return ImageOps.exif_transpose(image) if turned else image
    except DAMAGE:
        return image


def num_frames(image: Image.Image) -> int:
    """Return how many frames an ``open_stored`` image has; those of a phone's JPEG do not count.

    Raises:
        ValueError: A frame behind the first is damaged.
    """
    if image.format not in _WITH_FRAMES:
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except DAMAGE as error:
        raise ValueError(f"damaged behind its first frame: {error}") from error


def is_deep_grey(image: Image.Image) -> bool:
    """Return whether a decoded image has one channel of 16 or 32 bits, in whole numbers."""
    return image.mode.startswith("I")


def to_rgb(image: Image.Image, grey: GreyScale = BY_IMAGE) -> Image.Image:
    """Return a decoded image of any mode as RGB.

    Args:
        image: What ``open_stored`` or ``turn`` returns.
        grey: How 16-bit and 32-bit images of its set become 8 bits.

    Raises:
        ValueError: Its pixels are floating-point numbers of unknown range.
    """
    if image.mode == "RGB":
        return image
    if is_deep_grey(image):
        # Pillow's own conversion clips 16-bit values at 255, which leaves a white image.
        return Image.fromarray(to_8_bits(np.asarray(image).astype(np.int64), grey)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels of unknown range; save it with 8 bits")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
