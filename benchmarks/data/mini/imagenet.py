"""The classification set: one object in the middle of a small scene, in ImageNet's folders.

The scenes are made for this set alone: no picture shares pixels with one of the detection set, and
validation sees the other halves of the photographs.
"""

from benchmarks.data.mini.classes import CLASSES
from benchmarks.data.mini.compose import compose_crop
from benchmarks.data.mini.photos import Split
from benchmarks.data.mini.png import png_bytes
from benchmarks.data.mini.scene import VISIBLE_AT_LEAST
from benchmarks.data.mini.stream import Stream

NUM_PER_CLASS: dict[Split, int] = {"train": 150, "val": 50}

_SEED = {"train": (2026, 3), "val": (2026, 4)}


def num_crops(split: Split) -> int:
    """Return the number of pictures of a split."""
    return NUM_PER_CLASS[split] * len(CLASSES)


def crop_path(split: Split, index: int) -> str:
    """Return a picture's path inside the set's root: ``train/brick_star/00012.png``."""
    name = CLASSES[index % len(CLASSES)].name.replace(" ", "_")
    return f"{split}/{name}/{index // len(CLASSES):05d}.png"


def make_crop(split: Split, index: int) -> bytes:
    """Make one picture; its class is ``index`` modulo ten.

    Args:
        split: ``"train"`` or ``"val"``.
        index: From 0 to ``num_crops(split)`` - 1.

    Returns:
        The PNG file.
    """
    attempt = 0
    while True:
        stream = Stream(*_SEED[split], index, attempt)
        scene = compose_crop(split, stream, index % len(CLASSES))
        target, mask = scene.objects[0], scene.owner == 0
        if mask.sum() >= VISIBLE_AT_LEAST * target.full_area:
            return png_bytes(scene.finish(grey=False))
        attempt += 1
