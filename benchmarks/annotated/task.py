"""Bases of what is measured on COCO-format data."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks import output
from benchmarks.data.coco import open_checked
from benchmarks.data.mini import MINI_SHA256
from benchmarks.data.mini.coco import NUM_IMAGES, NUM_TRAINABLE
from benchmarks.data.roots import DataRoot, find_coco_root
from benchmarks.task import Facts, Measurement, Task
from detection.data.dataset import Split, Truth, find_coco, load_truth
from detection.data.facts import read_facts


class Annotated(Measurement):
    """Finds the data and what is known of them; see ``benchmarks.task.Measurement``."""

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

    def truth(self, data: DataRoot, split: Split, limit_images: int | None, cache: Path) -> Truth:
        """Return the images of a split with their objects, read as in training.

        Args:
            data: From ``find_data``.
            split: "train" or "val".
            limit_images: Number of images that runs used; None for all.
            cache: Folder for what is known of data.

        Raises:
            PreflightError: The data cannot be used.
        """
        return load_truth(open_checked(data, cache), split, limit_images=limit_images)


class AnnotatedTask(Annotated, Task):
    """A task on such data; see ``benchmarks.task.Task``."""


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
