"""A tiny COCO data set that tests can bend before it is written."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SQUARE = [10.0, 10.0, 40.0, 10.0, 40.0, 30.0, 10.0, 30.0]


def content(num_images: int = 4, *, masks: bool = True) -> dict[str, Any]:
    """Images of 64 x 48 with two objects each; category ids have a gap; every fourth crowd."""
    images, annotations = [], []
    for image in range(1, num_images + 1):
        images.append({"id": image, "file_name": f"{image}.png", "width": 64, "height": 48})
        for place in range(2):
            number = 10 * image + place
            x = 4.0 * place
            annotation: dict[str, Any] = {
                "id": number,
                "image_id": image,
                "category_id": (2, 7)[(image + place) % 2],
                "bbox": [10.0 + x, 10.0, 30.0, 20.0],
                "area": 600.0,
                "iscrowd": 0,
            }
            if masks:
                moved = [v + x if i % 2 == 0 else v for i, v in enumerate(SQUARE)]
                annotation["segmentation"] = [moved]
            annotations.append(annotation)
    categories = [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def coco_content() -> Callable[..., dict[str, Any]]:
    return content


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of a data set from its two annotation files' contents."""

    def write(train: Any = None, val: Any = None, name: str = "coco") -> Path:
        root = tmp_path / name
        for split, given in (("train", train), ("val", val)):
            held = copy.deepcopy(given) if given is not None else content()
            path = root / "annotations" / f"instances_{split}2017.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(held))
            folder = root / f"{split}2017"
            folder.mkdir(exist_ok=True)
            for image in held["images"]:
                pixels = np.random.default_rng(image["id"]).integers(
                    0, 256, (image["height"], image["width"], 3), dtype=np.uint8
                )
                Image.fromarray(pixels).save(folder / image["file_name"])
        return root

    return write
