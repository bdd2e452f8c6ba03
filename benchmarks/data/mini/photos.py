"""The photographs that textures and backgrounds are cut from, with their licences.

They lie inside the scikit-image and scikit-learn packages, so nothing is downloaded. Training
images see the left half of every photograph and validation images the right half: a texture can
be learned, but not by heart.

Resampling is done here in integers: Pillow's own may change a grey level between versions or
processors, and the mini data set must be the same bytes everywhere.
"""

import functools
import hashlib
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backbones.base.errors import PreflightError

Split = Literal["train", "val"]
Pixels = NDArray[np.int32]

_SCIKIT_IMAGE = ("skimage", "data", "scikit-image")
_SCIKIT_LEARN = ("sklearn", "datasets/images", "scikit-learn")


@dataclass(frozen=True)
class Photo:
    """One photograph: where it lies, whose it is, and a checksum of its decoded pixels."""

    file: str
    licence: str
    credit: str
    sha256: str
    package: tuple[str, str, str] = _SCIKIT_IMAGE
    used: tuple[int, int, int, int] | None = None
    """Left, top, right and bottom of the part without empty margins; None for the whole."""


_CC0 = "CC0 1.0"
_FREE = "No known copyright restrictions"

# Licences and credits as scikit-image's docstrings (skimage.data) and scikit-learn's README.txt
# beside the images state them. Photographs without a statement of their own, and those under
# more than attribution, stay out.
PHOTOS: dict[str, Photo] = {
    "brick": Photo(
        "brick.png",
        _CC0,
        "CC0Textures, Bricks25",
        "3501e216fb0968c378803347d3a13e3cc04021eaecc44b64c6528088c7ea0f64",
    ),
    "grass": Photo(
        "grass.png",
        _CC0,
        "linolafett, DeviantArt, Grass 01",
        "c7ca5c984d6b5a2787506e70a42bcac22b164b00e8e1cf9e06cf76b8110c5734",
    ),
    "gravel": Photo(
        "gravel.png",
        _CC0,
        "CC0Textures, Gravel04",
        "e73bd88250cbfd7f96f232357ecad0d2302252483457337f5cf79d2c5b82227a",
    ),
    "coins": Photo(
        "coins.png",
        _FREE,
        "Brooklyn Museum, Greek coins from Pompeii",
        "aaecc2ad43bd43e204f7ad01dc60494586ff80d42236c2db358c59b9be1f5427",
        used=(18, 15, 378, 290),
    ),
    "page": Photo(
        "page.png",
        "BSD-3-Clause",
        "the scikit-image developers",
        "ec733fa2c40866580dddaeba150133b831d35bc25bef98e24b7b8ce2557ed37a",
        used=(6, 48, 376, 118),
    ),
    "astronaut": Photo(
        "astronaut.png",
        _FREE,
        "NASA, Eileen Collins",
        "a8c429c18afa7b0fd5673e598d73a21225d94c864a71bbb3885126fdecb41071",
    ),
    "camera": Photo(
        "camera.png",
        _CC0,
        "Lav Varshney",
        "13e2b4aa92cb1649b4aac5a4d48b38a8ea3a18b86e8abdf5a4871abf24c9d038",
    ),
    "chelsea": Photo(
        "chelsea.png",
        _CC0,
        "Stefan van der Walt",
        "416b729128bfb2c3d1eb69bf9b1734a796293abc17939267b2dc94f8a5784031",
    ),
    "coffee": Photo(
        "coffee.png",
        _CC0,
        "Rachel Michetti, Pikolo Espresso Bar",
        "0ce2b51640b9c95f19617f03eabf40c3f0368589cc1ee1190b70966165ac184f",
    ),
    "ihc": Photo(
        "ihc.png",
        _FREE,
        "Center for Microscopy And Molecular Imaging",
        "c5b3ef509a92f16d4c29be8cf0300fe75d53e13a3ce650159db932caea8dcc1b",
    ),
    "rocket": Photo(
        "rocket.jpg",
        _FREE,
        "SpaceX, launch of DSCOVR",
        "3d4435cc745752b7f9724df88c6e18817de3ce7e3d2d71c55f85f7831e68f197",
    ),
    "china": Photo(
        "china.jpg",
        "CC BY 2.0",
        "danielbuechele, flickr.com",
        "e701459344fd69797154c91add3bb5d70e5ed1a61d8bed889bab3a796104698d",
        _SCIKIT_LEARN,
    ),
    "flower": Photo(
        "flower.jpg",
        "CC BY 2.0",
        "vultilion, flickr.com",
        "3202904ed246795bf616c66d7859cd7c6080eff736c6e38dc5cc62779742033f",
        _SCIKIT_LEARN,
    ),
}


@functools.lru_cache(maxsize=2 * len(PHOTOS))
def photo_half(name: str, split: Split) -> tuple[Pixels, ...]:
    """Return one half of a photograph at full size and halved again and again.

    Args:
        name: Key of ``PHOTOS``.
        split: ``"train"`` for the left half, ``"val"`` for the right one.

    Returns:
        Levels of shape (height, width, 3), each half the size of the one before.

    Raises:
        PreflightError: The photograph is absent, or not the one expected.
    """
    pixels = _decoded(name)
    middle = pixels.shape[1] // 2
    level = pixels[:, :middle] if split == "train" else pixels[:, middle:]
    levels = [level]
    while min(level.shape[:2]) >= 48:
        even = level[: level.shape[0] // 2 * 2, : level.shape[1] // 2 * 2]
        level = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2] + 2) >> 2
        levels.append(level)
    return tuple(levels)


@functools.lru_cache(maxsize=2 * len(PHOTOS))
def grey_half(name: str, split: Split) -> tuple[Pixels, ...]:
    """Return ``photo_half`` as one channel, (height, width, 1), in ITU-R BT.601 weights."""
    weights = np.array([299, 587, 114], dtype=np.int32)
    return tuple((level @ weights)[..., None] // 1000 for level in photo_half(name, split))


@dataclass(frozen=True)
class Frame:
    """Which part of a photograph fills a canvas: a centre, a scale and an angle.

    ``x`` and ``y`` are fractions of the photograph's width and height, ``scale`` is photograph
    pixels per canvas pixel, ``angle`` is in radians.
    """

    x: float
    y: float
    scale: float
    angle: float
    mirrored: bool = False


def cut(levels: tuple[Pixels, ...], frame: Frame, height: int, width: int) -> Pixels:
    """Cut a (height, width) piece out of a photograph, reflected beyond its borders.

    Args:
        levels: As ``photo_half`` returns them.
        frame: Which part.
        height: Height of the piece, in pixels.
        width: Width of the piece, in pixels.

    Returns:
        Grey levels 0-255 of shape (height, width, channels).
    """
    scale, index = frame.scale, 0
    # Beyond 1.5 photograph pixels a step, bilinear sampling skips pixels and shows aliases.
    while scale > 1.5 and index + 1 < len(levels):
        scale, index = scale / 2, index + 1
    level = levels[index]
    cos, sin = (
        round(scale * math.cos(frame.angle) * 65536),
        round(scale * math.sin(frame.angle) * 65536),
    )
    across = np.arange(width, dtype=np.int32)[None, :] - width // 2
    if frame.mirrored:
        across = -across
    down = np.arange(height, dtype=np.int32)[:, None] - height // 2
    x = ((across * cos - down * sin) >> 8) + round(frame.x * level.shape[1] * 256)
    y = ((across * sin + down * cos) >> 8) + round(frame.y * level.shape[0] * 256)
    return _bilinear(level, x, y)


def _bilinear(level: Pixels, x: Pixels, y: Pixels) -> Pixels:
    """Sample ``level`` at ``x`` and ``y``, both in 1/256 pixel."""
    height, width, channels = level.shape
    flat = level.reshape(-1, channels)
    left, right = _reflected(x >> 8, width), _reflected((x >> 8) + 1, width)
    top, bottom = _reflected(y >> 8, height) * width, _reflected((y >> 8) + 1, height) * width
    part_x, part_y = (x & 255)[..., None], (y & 255)[..., None]
    above = flat.take(top + left, axis=0) * (256 - part_x) + flat.take(top + right, axis=0) * part_x
    below = (
        flat.take(bottom + left, axis=0) * (256 - part_x)
        + flat.take(bottom + right, axis=0) * part_x
    )
    mixed: Pixels = (above * (256 - part_y) + below * part_y + 32768) >> 16
    return mixed


def _reflected(index: Pixels, length: int) -> Pixels:
    folded = index % (2 * length)
    result: Pixels = np.minimum(folded, 2 * length - 1 - folded)
    return result


def _decoded(name: str) -> Pixels:
    photo = PHOTOS[name]
    module, folder, package = photo.package
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise PreflightError(
            f"The embedded mini data needs photographs of the package {package}, which is not "
            f"installed: run `make setup`, or `pip install {package}`."
        )
    path = Path(found.origin).parent / folder / photo.file
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise PreflightError(
            f"The embedded mini data needs the photograph {path}, which cannot be read: install "
            f"{package} again with `pip install --force-reinstall {package}`."
        ) from error
    if hashlib.sha256(pixels.tobytes()).hexdigest() != photo.sha256:
        raise PreflightError(
            f"The photograph {path} is not the one the embedded mini data is made of: install the "
            f"version of {package} that requirements.lock names, with `make setup`."
        )
    left, top, right, bottom = photo.used or (0, 0, pixels.shape[1], pixels.shape[0])
    return pixels[top:bottom, left:right].astype(np.int32)
