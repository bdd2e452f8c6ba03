"""A COCO image file to RGB at its stated size, or one sentence that names the file."""

from pathlib import Path

from PIL import Image

from backbones.errors import PreflightError
from backbones.images import open_stored, to_rgb, turn


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
    try:
        stored = open_stored(Path(path).read_bytes())
        upright = turn(stored)
        for image in (upright, stored):
            if image.size == (width, height):
                return to_rgb(image)
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
