"""Which files were found valid before and have not been touched since. Imports no torch."""

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backbones.errors import PreflightError
from backbones.files import sha256_file, write_json_atomically

_SCHEMA = Path(__file__).with_name("record.schema.json")


class CheckedFiles:
    """A memory of valid records, by folder, modification time and size.

    Checking a record against its schema takes several milliseconds, reading it a fraction of one.
    Whoever edits a record changes its time, and it is checked again.

    Args:
        path: File that remembers; may be absent, and nothing depends on it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._schema = sha256_file(_SCHEMA)
        self._before = self._read()
        self._now: dict[str, str] = {}

    @contextmanager
    def look(self, path: Path) -> Iterator[bool]:
        """Tell whether a file is known to be valid; leaving without an exception makes it so.

        Args:
            path: ``record.json`` in the folder of its run.
        """
        name = path.parent.name
        try:
            facts = path.stat()
        except OSError:
            yield False
            return
        # Taken before the file is read: one that is replaced meanwhile is looked at again.
        key = f"{facts.st_mtime_ns}:{facts.st_size}"
        yield self._before.get(name) == key
        self._now[name] = key

    def save(self) -> None:
        """Remember what was seen, if that is news."""
        if self._now == self._before or not self._path.parent.parent.is_dir():
            return
        # A folder that can only be read is looked at in full every time.
        with contextlib.suppress(PreflightError):
            write_json_atomically(self._path, {"schema": self._schema, "files": self._now})

    def _read(self) -> dict[str, str]:
        try:
            content = json.loads(self._path.read_text())
            known = content["files"] if content["schema"] == self._schema else {}
            return {str(name): str(key) for name, key in known.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
