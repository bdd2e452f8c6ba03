"""From where a detection data set lies to the data set."""

from pathlib import Path

from benchmarks.data.mini import mini_data
from benchmarks.data.roots import DataRoot
from detection.data.dataset import CocoData, find_coco
from detection.data.facts import checked


def open_coco(root: DataRoot) -> CocoData:
    """Return a data set; the embedded mini data are made if they are not there.

    Raises:
        PreflightError: The folder holds no data set in COCO's layout.
    """
    if root.path is None:
        return CocoData(root.name, mini_data().coco, mini=True)
    return find_coco(root.path, root.name)


def open_checked(root: DataRoot, cache: Path) -> CocoData:
    """Return a data set that knows how training reads its images.

    Args:
        root: Where it lies; the embedded mini data need no check.
        cache: Folder for what is known of data.

    Raises:
        PreflightError: As ``open_coco`` and ``detection.data.facts.read_facts``.
    """
    data = open_coco(root)
    return data if data.mini else checked(data, cache)
