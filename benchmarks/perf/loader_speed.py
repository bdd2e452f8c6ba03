"""Training images a second on one core, decode + large-scale jitter + masks: ours against theirs.

::

    python benchmarks/perf/loader_speed.py                  # photographs with drawn objects
    python benchmarks/perf/loader_speed.py DIR 9            # a folder in COCO's layout, 9 rounds

The other side is detectron2's DatasetMapper with ViTDet's augmentation and bitmap masks. Both
read the same images with draws of the same distribution at 1024 pixels.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.perf.evaluation_speed import HEIGHT, NUM_CLASSES, WIDTH, make_objects
from benchmarks.perf.measure import Candidate, alternate, print_comparison

_SIZE = 1024  # ViTDet's
_IMAGES = 48  # a step
_ROUNDS = 5
_HERE = "benchmarks.perf.loader_speed"


def main(args: list[str]) -> None:
    """Compare, and print images a second.

    Args:
        args: A data folder, then the number of rounds; both may be left out.
    """
    rounds = int(args[1]) if len(args) > 1 else _ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        root = args[0] if args else str(make_data(Path(folder)))
        sides = [
            Candidate("ours", f"{_HERE}:ours", (root,)),
            Candidate("detectron2", f"{_HERE}:detectron2", (root,)),
        ]
        comparison = alternate(sides, rounds=rounds, threads=1)
    print_comparison(f"{_IMAGES} images, LSJ {_SIZE}, masks", comparison)
    for side in sides:
        print(f"  {side.name:<28} {_IMAGES / comparison.seconds(side.name):8.1f} images/s a core")


def ours(root: str) -> Callable[[], object]:
    """Return our mapper over the images as a step."""
    from detection.config import DetectionDataConfig
    from detection.data.mapper import map_train

    images = _images(root)
    config = DetectionDataConfig(img_size=_SIZE)
    rounds = iter(range(1_000_000))

    def step() -> None:
        epoch = next(rounds)
        for index, image in enumerate(images):
            map_train(image, config, Random(f"{epoch} {index}"))

    return step


def detectron2(root: str) -> Callable[[], object]:
    """Return detectron2's mapper over the same images as a step."""
    from detectron2.data import DatasetMapper
    from detectron2.data import transforms as T

    mapper = DatasetMapper(
        is_train=True,
        augmentations=[
            T.RandomFlip(horizontal=True),
            T.ResizeScale(0.1, 2.0, _SIZE, _SIZE),
            T.FixedSizeCrop((_SIZE, _SIZE), pad=False),
        ],
        image_format="RGB",
        use_instance_mask=True,
        instance_mask_format="bitmask",
        recompute_boxes=True,
    )
    images = _images(root)

    def step() -> None:
        for image in images:
            mapper(image)

    return step


def make_data(folder: Path) -> Path:
    """Write photographs of 480 x 640 with objects of all sizes, as many as COCO has.

    Args:
        folder: Gets a training split in COCO's layout.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(photo) for photo in load_sample_images().images]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    (folder / "train2017").mkdir()
    (folder / "annotations").mkdir()
    for number in range(1, _IMAGES + 1):
        photo = photographs[number % len(photographs)]
        left, top = rng.integers(0, (120, 60)).tolist()
        part = photo.resize((WIDTH, HEIGHT), box=(left, top, left + 500, top + 360))
        part.save(folder / "train2017" / f"{number}.jpg", quality=90)
        size = {"height": HEIGHT, "width": WIDTH}
        images.append({"id": number, "file_name": f"{number}.jpg", **size})
        annotations += make_objects(rng, number, len(annotations))
    categories = [{"id": c, "name": f"class {c}"} for c in range(NUM_CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(content), "utf-8")
    return folder


def _images(root: str) -> list[dict[str, Any]]:
    from detection.config import DetectionDataConfig
    from detection.data.dataset import CocoData, load_training_images

    data = CocoData("bench", Path(root))
    return load_training_images(data, DetectionDataConfig(), seed=0, limit_images=_IMAGES)


if __name__ == "__main__":
    main(sys.argv[1:])
