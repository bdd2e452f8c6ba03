"""Small files of named arrays (``.npz``) that say what they are, whole or refused."""

import hashlib
import io
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from backbones.base.errors import UserError
from backbones.base.files import atomic_file, open_plain

T = TypeVar("T")


@dataclass(frozen=True)
class ArrayFormat:
    """What files of one kind hold.

    Attributes:
        name: Written into each file; its number goes up when the meaning of the arrays changes.
        content: What the arrays are, for sentences about a file.
    """

    name: str
    content: str

    def write(self, path: Path, arrays: Mapping[str, Any], compressed: bool = True) -> None:
        """Write a file, atomically; equal arrays give equal bytes.

        Args:
            path: The file.
            arrays: By name.
            compressed: Takes a while, and pays for all but noise.

        Raises:
            PreflightError: The file cannot be written.
        """
        save = np.savez_compressed if compressed else np.savez
        with atomic_file(path) as file:
            save(file, format=np.array(f"{self.name} {_digest(arrays)}"), **arrays)

    def read(self, path: Path, parse: Callable[[dict[str, Any]], T]) -> T:
        """Return what ``parse`` makes of the arrays in a file.

        Args:
            path: The file.
            parse: Its KeyError, TypeError or ValueError means that the arrays do not fit.

        Raises:
            UserError: The file is absent, damaged, or something else.
        """
        try:
            with open_plain(path) as file:
                return self.parse(file, parse)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} is not a valid file of {self.content}: {error}; run it again."
            ) from error

    def parse(self, file: BinaryIO, parse: Callable[[dict[str, Any]], T]) -> T:
        """Return what ``parse`` makes of the arrays in an open file.

        Args:
            file: Its content, from an untrusted source perhaps.
            parse: As in ``read``.

        Raises:
            ValueError: The content is damaged or something else; says why.
            OSError: The file cannot be read.
        """
        try:
            arrays = _arrays(file)
            name, _, digest = str(arrays.pop("format")).partition(" ")
            if name != self.name:
                raise ValueError("another format")
            # Files of earlier versions have none.
            if digest and digest != _digest(arrays):
                raise ValueError("its checksum differs, so it was edited or damaged")
            return parse(arrays)
        except _DAMAGED as error:
            raise ValueError(str(error) or type(error).__name__) from error


def _digest(arrays: Mapping[str, Any]) -> str:
    """Return a SHA-256 over names, types, shapes and bytes.

    A zip archive has checksums of its members, and none of which members there are.
    """
    digest = hashlib.sha256()
    for name, value in sorted(arrays.items()):
        array = np.ascontiguousarray(value)
        digest.update(f"{name} {array.dtype.str} {np.shape(value)}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


# What zipfile, zlib and numpy say to damaged, encrypted and unknown content.
_DAMAGED = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, RuntimeError,
    OverflowError, SyntaxError, tokenize.TokenError, Warning, zipfile.BadZipFile,
    zipfile.LargeZipFile, zlib.error, struct.error,
)  # fmt: skip
# DEFLATE never makes more than 1032 bytes of one.
_LARGEST_RATIO = 1032


def _arrays(file: BinaryIO) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an ``.npz`` by name, once each one's size is possible.

    numpy allocates what the header of an array claims, which a damaged file may put at terabytes.
    """
    size = file.seek(0, io.SEEK_END)
    found: dict[str, npt.NDArray[Any]] = {}
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name in found:
                raise ValueError(f"it has two arrays {name!r}")
            if info.compress_size > size or info.file_size > _LARGEST_RATIO * info.compress_size:
                raise ValueError(f"the array {name!r} claims {info.file_size:,} bytes")
            with archive.open(info) as member:
                _check_header(name, member, info.file_size)
            with archive.open(info) as member:
                found[name] = np.lib.format.read_array(member, allow_pickle=False)
    return found


def _check_header(name: str, member: IO[bytes], size: int) -> None:
    """Refuse an array whose header claims another number of bytes than the archive has.

    Raises:
        ValueError: It does, or it holds Python objects.
    """
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"the array {name!r} has the unknown version {version}")
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    with warnings.catch_warnings():
        # numpy tries to repair headers that are not Python, and says so.
        warnings.simplefilter("error")
        shape, _, dtype = read(member)
    claimed = member.tell() + math.prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0 or claimed != size:
        raise ValueError(f"the array {name!r} claims {claimed:,} bytes and has {size:,}")
