"""Small files of named arrays (``.npz``) that say what they are, whole or refused."""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from backbones.base.errors import UserError
from backbones.base.files import atomic_file

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
            save(file, format=np.array(self.name), **arrays)

    def read(self, path: Path, parse: Callable[[dict[str, Any]], T]) -> T:
        """Return what ``parse`` makes of the arrays in a file.

        Args:
            path: The file.
            parse: Its KeyError, TypeError or ValueError means that the arrays do not fit.

        Raises:
            UserError: The file is absent, damaged, or something else.
        """
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if str(arrays.pop("format")) == self.name:
                return parse(arrays)
            fault = "another format"
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            fault = str(error)
        raise UserError(f"{path} is no whole file of {self.content} ({fault}); run it again.")
