"""Whether images hold anything to detect. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbones.errors import PreflightError

# By split, what its images are called and what they are for.
_PURPOSES = {"train": ("training", "learn from"), "val": ("validation", "measure")}


def has_objects(image: dict[str, Any]) -> bool:
    """Return whether a dataset dict has an object that is no crowd."""
    return any(not annotation["iscrowd"] for annotation in image["annotations"])


def check_objects(
    images: Sequence[dict[str, Any]], path: Path, split: str, *, limit_images: int | None = None
) -> None:
    """Refuse images of which none has an object that is no crowd.

    Args:
        images: Dataset dicts (``detection.dataset``).
        path: Their annotation file.
        split: "train" or "val".
        limit_images: What they were limited to.

    Raises:
        PreflightError: None has; the sentence names the file, and the limit where there is one.
    """
    if any(map(has_objects, images)):
        return
    kind, purpose = _PURPOSES[split]
    which = f"{kind} images in {path}"
    advice = "annotate objects there, or give other data with --data"
    if limit_images is not None:
        which = f"{len(images)} {kind} images that --limit-images leaves of {path}"
        advice = "raise --limit-images"
    raise PreflightError(
        f"None of the {which} has an object that is no crowd, so there is nothing to {purpose}; "
        f"{advice}."
    )
