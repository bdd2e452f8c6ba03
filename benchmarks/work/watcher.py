"""Finds checkpoints that another program writes, when each is whole."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from backbones.base.errors import PreflightError

PATTERNS = ("*.pth", "*.pt", "*.ckpt", "*.safetensors", "*.bin", "*.tar")
# Words that trainers write in front of the epoch, or of the step where they count only steps. A
# number without one of them, as in vit_b_16.pth or run3/last.pth, says nothing of an epoch.
_WORDS = (
    ("epoch", "epochs", "ep"),
    ("step", "steps", "iter", "iteration", "iterations"),
    ("checkpoint", "ckpt", "model", "weights", "net"),
)
_NAMED = tuple(
    re.compile(rf"(?:^|[^a-z])(?:{'|'.join(words)})[-_=]?(\d+)", re.IGNORECASE) for words in _WORDS
)


@dataclass(frozen=True)
class Look:
    """A file as it was when somebody looked.

    Attributes:
        size: In bytes.
        changed: Modification time in nanoseconds.
    """

    size: int
    changed: int


class Watcher:
    """Looks at a folder again and again; a file is whole when it stops changing."""

    def __init__(
        self,
        folder: Path,
        patterns: Sequence[str],
        settle: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch a folder.

        Args:
            folder: It, with everything below it.
            patterns: Names of files that are checkpoints.
            settle: Seconds that a file has to stay as it is.
            clock: In seconds.
        """
        self._folder = folder
        self._patterns = tuple(patterns)
        self._settle = settle
        self._clock = clock
        self._since: dict[Path, tuple[Look, float]] = {}

    def settled(self) -> dict[Path, Look]:
        """Return the files that did not change for long enough, by the number in their names.

        Raises:
            PreflightError: The folder does not exist or cannot be read.
        """
        now = self._clock()
        found = self._looks()
        self._since = {
            path: (look, self._since[path][1])
            if path in self._since and self._since[path][0] == look
            else (look, now)
            for path, look in found.items()
        }
        whole = [p for p, (_, since) in self._since.items() if now - since >= self._settle]
        return {path: found[path] for path in sorted(whole, key=_order)}

    @property
    def waiting(self) -> bool:
        """Whether a file was seen that has not settled."""
        now = self._clock()
        return any(now - since < self._settle for _, since in self._since.values())

    def _looks(self) -> dict[Path, Look]:
        if not self._folder.is_dir():
            raise PreflightError(
                f"{self._folder} is not a folder; name the trainer's output folder."
            )
        looks = {}
        for path in self._folder.rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(self._folder).parts)
            if hidden or not any(fnmatch(path.name, pattern) for pattern in self._patterns):
                continue
            try:
                facts = path.stat()
            except OSError:  # it was renamed or deleted meanwhile
                continue
            if path.is_file() and facts.st_size:
                looks[path] = Look(facts.st_size, facts.st_mtime_ns)
        return looks


def epoch_of(path: Path) -> int | None:
    """Return the epoch or step in a checkpoint's name or in the name of its folder.

    ``checkpoint-12.pth`` is 12, ``epoch=9-step=1000.ckpt`` is 9, ``last.pth`` has none.
    """
    stem = path.name.partition(".")[0]
    if stem.isdecimal():
        return int(stem)
    for named in _NAMED:
        for text in (stem, path.parent.name):
            if found := named.search(text):
                return int(found[1])
    return None


def _order(path: Path) -> tuple[bool, int, str]:
    epoch = epoch_of(path)
    return epoch is None, epoch or 0, str(path)
