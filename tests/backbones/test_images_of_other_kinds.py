"""Content of another kind under an image's name is named in one sentence."""

import struct

import pytest

from backbones.base.images import decode


def dds(four_cc):
    header = struct.pack("<4s7I44x", b"DDS ", 124, 0x1007, 16, 16, 0, 0, 0)
    pixel_format = struct.pack("<2I4s5I", 32, 4, four_cc, 0, 0, 0, 0, 0)
    return header + pixel_format + struct.pack("<5I", 0x1000, 0, 0, 0, 0) + bytes(512)


AVIF = b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1miafMA1B" + bytes(64)
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (dds(b"XYZW"), "its content is DDS: "),
        (dds(b"DX10"), "its content is DDS: "),
        (dds(b"DXT1")[:130], "its content is DDS: "),
        (AVIF, "its content is AVIF: "),
        (HEIC, "its content is HEIC: "),
        (b"", "the file is empty: "),
        (b"<!DOCTYPE html><html>404</html>", "its content is a web page: "),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
        (b"%PDF-1.7\n", "its content is PDF: "),
    ],
)
def test_other_content_is_one_sentence(content, words):
    with pytest.raises(ValueError, match=words) as raised:
        decode(content)
    assert "\n" not in str(raised.value)
