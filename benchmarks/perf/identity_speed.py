"""How long it takes to check a detection data set in full, and to look at it again.

::

    python benchmarks/perf/identity_speed.py                 # 118,000 images, as COCO has
    python benchmarks/perf/identity_speed.py 10000 FOLDER    # as many, kept in a folder

The images are small (64 pixels), so the first check measures what an image costs beyond its bytes
and pixels. The second look has to stay below two seconds: it is part of every command, and of the
start of every run.
"""

import io
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from backbones.base.cores import usable_cores
from detection.data.dataset import find_coco
from detection.data.facts import read_facts

_IMAGES, _SIDE, _OBJECTS, _DIFFERENT = 118_000, 64, 7, 64


def main(arguments: list[str]) -> None:
    """Print both times.

    Args:
        arguments: Number of images and a folder for them, both optional.
    """
    count = int(arguments[0]) if arguments else _IMAGES
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(arguments[1]) if len(arguments) > 1 else Path(temporary)
        for split, share in (("train", count), ("val", max(1, count // 24))):
            _write(root, split, share)
        cache = Path(temporary) / "cache"
        for what in ("first check", "second look", "third look"):
            start = time.perf_counter()
            facts = read_facts(find_coco(root), cache)
            seconds = time.perf_counter() - start
            print(f"{what}: {seconds:.2f} s, {facts.num_train:,} training images, "
                  f"{usable_cores()} cores")  # fmt: skip


def _write(root: Path, split: str, count: int) -> None:
    folder = root / f"{split}2017"
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    encoded = [_encode(random) for _ in range(_DIFFERENT)]
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in range(1, count + 1):
        name = f"{number:012d}.jpg"
        (folder / name).write_bytes(encoded[number % _DIFFERENT] + str((split, number)).encode())
        images.append({"id": number, "file_name": name, "width": _SIDE, "height": _SIDE})
        for place in range(_OBJECTS):
            x, y, w, h = 4 * place, 3 * place, 20, 16
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            one = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            annotations.append(
                {**one, "bbox": [x, y, w, h], "area": w * h, "segmentation": [polygon]}
            )
    content = {"images": images, "annotations": annotations,
               "categories": [{"id": 1, "name": "thing"}]}  # fmt: skip
    path = root / "annotations" / f"instances_{split}2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")


def _encode(random: np.random.Generator) -> bytes:
    stream = io.BytesIO()
    pixels = random.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


if __name__ == "__main__":
    main(sys.argv[1:])
