"""From where a detection data set lies to the data set."""

from benchmarks.data.mini import mini_data
from benchmarks.data.roots import DataRoot
from detection.data.dataset import CocoData, find_coco


def open_coco(root: DataRoot) -> CocoData:
    """Return a data set; the embedded mini data are made if they are not there.

    Raises:
        PreflightError: The folder holds no data set in COCO's layout.
    """
    if root.path is None:
        return CocoData(root.name, mini_data().coco, mini=True)
    return find_coco(root.path, root.name)
