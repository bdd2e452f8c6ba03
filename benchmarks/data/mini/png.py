"""PNG files that are the same bytes everywhere.

Compressors differ between versions of zlib, and so would the files; deflate's stored blocks leave
nothing to choose. It also makes the files fast to write and to read, for a third more disk.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_STORED_AT_MOST = 65535  # bytes in a stored block, RFC 1951 section 3.2.4


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Return an uncompressed PNG file.

    Args:
        pixels: (height, width, 3) for colour or (height, width) for grey.

    Returns:
        The file's bytes, after the PNG specification (ISO/IEC 15948) and RFC 1950.
    """
    height, width = pixels.shape[:2]
    color_type = 2 if pixels.ndim == 3 else 0
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each row begins with filter 0: none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", _stored(rows.tobytes())),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _stored(content: bytes) -> bytes:
    """Return a zlib stream of ``content`` in stored blocks."""
    parts = [b"\x78\x01"]
    for start in range(0, len(content), _STORED_AT_MOST):
        block = content[start : start + _STORED_AT_MOST]
        last = start + _STORED_AT_MOST >= len(content)
        parts.append(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF))
        parts.append(block)
    parts.append(struct.pack(">I", zlib.adler32(content)))
    return b"".join(parts)
