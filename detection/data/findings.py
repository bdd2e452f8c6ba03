"""What a reader of annotations says of a file: what it refuses, fixes or warns of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.base.errors import PreflightError
from backbones.base.wording import first_of

# In a small file one blemish is a large share: this many are mended whatever the share, up to
# one object in ten.
_FEW = 3
_FEW_SHARE = 0.1


@dataclass(frozen=True)
class Kind:
    """A kind of blemish.

    Attributes:
        what: Plural phrase for the annotations that have it.
        mend: What is done to them, as a participle.
        share: Largest share of all annotations that is mended; more of them refuse the file.
        item: What has it, singular.
    """

    what: str
    mend: str
    share: float
    item: str = "annotation"


NO_SIZE = Kind("boxes without width or height", "dropped", 0.05)
SLIVERS = Kind("boxes that only touch their image from outside", "dropped", 0.1)
OUTSIDE = Kind("boxes outside their image", "dropped", 0.01)
# Images cut from larger ones have many, so these alone do not refuse a file; see ``causes``.
BEYOND = Kind("boxes beyond their image", "clipped", 1.0)
SHORT = Kind("polygons with fewer than three points", "dropped", 1.0)
FAR = Kind("masks with corners outside their image", "clipped", 1.0)
NO_MASK = Kind("objects without a mask", "given their box as mask", 0.02)
BROKEN_MASK = Kind("masks that cannot be read", "replaced by their box", 0.02)
OTHER_MASK = Kind("masks that contradict their box", "replaced by their box", 0.02)
BAD_AREA = Kind("areas missing or impossible", "computed", 1.0)
OTHER_AREA = Kind("areas contradict masks and boxes", "all computed", 1.0)
STOPGAP_AREA = Kind("areas look like placeholders", "all computed", 1.0)
CORNERS = Kind("boxes that their areas show to be two corners (xyxy)", "read as such", 0.02)
REPEATED = Kind("annotations that repeat class and box of another", "kept", 0.1)
TWO_CLASSES = Kind("annotations that repeat the box of another class", "kept", 0.3)
COPIES = Kind(
    "images that equal another byte for byte and have other annotations", "kept", 0.2, "image"
)
GROUPS = Kind("categories that only name a group", "dropped", 1.0, "category")


class Mending:
    """Counts what was mended in one annotation file, and words what cannot be."""

    def __init__(self, path: Path) -> None:
        """Begin with nothing mended.

        Args:
            path: The file.
        """
        self._path = path
        self._counts: dict[Kind, int] = {}
        self._first: dict[Kind, int] = {}
        self._warnings: list[str] = []

    def fault(self, what: str) -> PreflightError:
        """Return the error for a file; ``what`` is a phrase that follows its name."""
        return PreflightError(f"The annotation file {self._path} {what}.")

    def mended(self, kind: Kind, annotation_id: int) -> None:
        """Count one annotation that was mended."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._first.setdefault(kind, annotation_id)

    def settle(
        self, kind: Kind, wrong: Sequence[int], total: int, *, first: str = "", cause: str = ""
    ) -> None:
        """Count annotations as mended, or refuse the file where they are too many.

        Args:
            kind: Their blemish.
            wrong: Their ids.
            total: How many annotations could have it.
            first: What the first of them is like, for the refusal.
            cause: The likely cause in words, for the refusal.

        Raises:
            PreflightError: They are more than ``kind`` allows.
        """
        if len(wrong) > allowed(kind.share, total):
            raise self.fault(
                f"has {kind.what}: {len(wrong)} of {total} ({name_ids(wrong, kind.item)}"
                f"{f': {first}' if first else ''}). Up to {100 * kind.share:g} % would be "
                f"{kind.mend} and counted; correct the file"
                f"{f', in which {cause}' if cause else ''}"
            )
        for annotation_id in wrong:
            self.mended(kind, annotation_id)

    def warn(self, sentence: str) -> None:
        """Keep a sentence that a reader of the scores has to know."""
        self._warnings.append(f"{self._path.name}: {sentence}.")

    def notes(self) -> tuple[str, ...]:
        """Return one sentence for each way in which annotations were mended, then all warnings."""
        counted = (
            f"{self._path.name}: {kind.what}, {kind.mend}: {count} "
            f"(first: {kind.item} {self._first[kind]})."
            for kind, count in self._counts.items()
        )
        return (*counted, *self._warnings)


def allowed(share: float, total: int) -> float:
    """Return how many of ``total`` annotations may have a blemish."""
    return max(share * total, min(_FEW, _FEW_SHARE * total))


def name_ids(ids: Sequence[int], item: str = "annotation") -> str:
    """Return the first few ids as "annotation 1" or "annotations 1, 2, 3 and 4 more"."""
    return f"{item}{'s' if len(ids) > 1 else ''} {first_of(ids)}"
