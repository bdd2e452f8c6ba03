"""Images that are numbers already, as bytes that decode to the same numbers."""

import numpy as np
import numpy.typing as npt


def as_file(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return an image file without loss.

    It is a PGM or PPM: PNG takes a hundred times as long to write, even uncompressed.

    Args:
        pixels: (H, W) grey or (H, W, 3) RGB.
    """
    height, width = pixels.shape[:2]
    kind = 5 if pixels.ndim == 2 else 6
    return f"P{kind} {width} {height} 255\n".encode() + pixels.tobytes()
