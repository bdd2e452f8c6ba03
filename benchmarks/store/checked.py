"""Which records were found valid before."""

import contextlib
import hashlib
import json
from pathlib import Path

from backbones.base.errors import PreflightError
from backbones.base.files import sha256_file, write_json_atomically
from benchmarks.store.record_text import SCHEMA_FILE


class CheckedTexts:
    """A memory of valid record files, by the SHA-256 of their bytes.

    Checking a record takes longer than reading it, hashing it hardly any time. Whoever changes a
    byte of it makes it another one, that is checked again.

    Args:
        path: File that remembers; may be absent, and nothing depends on it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._schema = sha256_file(SCHEMA_FILE)
        self._before = self._read()
        self._now: set[str] = set()

    def knows(self, text: bytes) -> bool:
        """Tell whether these very bytes were found valid before, and keep them in mind if so."""
        digest = _digest(text)
        if digest in self._before:
            self._now.add(digest)
        return digest in self._before

    def add(self, text: bytes) -> None:
        """Take bytes for valid from now on."""
        self._now.add(_digest(text))

    def save(self) -> None:
        """Remember what was seen, if that is news."""
        if self._now == self._before or not self._path.parent.parent.is_dir():
            return
        # A folder that can only be read is looked at in full every time.
        with contextlib.suppress(PreflightError):
            content = {"schema": self._schema, "valid": sorted(self._now)}
            write_json_atomically(self._path, content)

    def _read(self) -> set[str]:
        try:
            content = json.loads(self._path.read_text("utf-8"))
            return set(map(str, content["valid"])) if content["schema"] == self._schema else set()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return set()


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
