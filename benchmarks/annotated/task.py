"""Base of the tasks on COCO-format data."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks import output
from benchmarks.data.mini import MINI_SHA256
from benchmarks.data.mini.coco import NUM_IMAGES, NUM_TRAINABLE
from benchmarks.data.roots import DataRoot, find_coco_root
from benchmarks.task import Facts, Task
from detection.data.dataset import find_coco
from detection.data.facts import read_facts


class AnnotatedTask(Task):
    """Finds the data and what a plan must know of them; see ``benchmarks.task.Task``."""

    data_kind = "coco"

    def find_data(self, given: Mapping[str, Path]) -> DataRoot:
        """Return where the data lies."""
        root = find_coco_root(given)
        if root.path is not None:
            find_coco(root.path, root.name)
        return root

    def read_facts(self, data: DataRoot, cache: Path) -> Facts:
        """Return what a plan needs to know; the mini data need not exist yet."""
        return facts_of(data, cache)


def facts_of(data: DataRoot, cache: Path) -> Facts:
    """Return fingerprint and image counts of annotated data; see ``Task.read_facts``.

    Args:
        data: Where the data lies.
        cache: Folder to remember facts in.

    Raises:
        PreflightError: The data cannot be used.
    """
    if data.path is None:
        return Facts(MINI_SHA256, NUM_TRAINABLE, NUM_IMAGES["val"])

    def tell(split: str, done: int, count: int) -> None:
        output.note(f"checking the {split} images of {data.name}: {done:,} of {count:,}")

    facts = read_facts(find_coco(data.path, data.name), cache, tell)
    return Facts(
        facts.fingerprint, facts.num_train, facts.num_val, facts.former_fingerprint, facts.notes
    )
