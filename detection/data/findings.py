"""What a reader of annotations says of a file: what it refuses, and what it mended."""

from pathlib import Path

from backbones.base.errors import PreflightError


class Mending:
    """Counts what was mended in one annotation file, and words what cannot be."""

    def __init__(self, path: Path) -> None:
        """Begin with nothing mended.

        Args:
            path: The file.
        """
        self._path = path
        self._counts: dict[str, int] = {}
        self._first: dict[str, int] = {}

    def fault(self, what: str) -> PreflightError:
        """Return the error for a file that ``what`` (a phrase after its name) is wrong with."""
        return PreflightError(f"The annotation file {self._path} {what}.")

    def mended(self, what: str, annotation_id: int) -> None:
        """Count one annotation that was mended in the way that ``what`` names."""
        self._counts[what] = self._counts.get(what, 0) + 1
        self._first.setdefault(what, annotation_id)

    def notes(self) -> tuple[str, ...]:
        """Return one sentence for each way in which annotations were mended."""
        return tuple(
            f"{self._path.name}: {what}: {count} (first: annotation {self._first[what]})."
            for what, count in self._counts.items()
        )
