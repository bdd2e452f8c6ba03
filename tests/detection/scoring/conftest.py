"""The made ground truth that results files are scored against."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection.scoring.results.truth import ScoringTruth, find_truth, read_truth
from tests.detection.scoring.made import CATEGORIES, HEIGHT, WIDTH, made_annotation, moved


@pytest.fixture(scope="module")
def content() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Crowds, all sizes, images without objects, and an image with 260 detections of a class."""
    rng = np.random.default_rng(5)
    images = [
        {"id": 11 * n + 4, "file_name": f"{n}.jpg", "width": WIDTH, "height": HEIGHT}
        for n in range(14)
    ]
    annotations = [
        made_annotation(rng, number, images[int(rng.integers(0, 12))]["id"])
        for number in range(1, 70)
    ]
    truth = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in CATEGORIES.items()],
    }
    found = [moved(rng, a) for a in annotations for _ in range(int(rng.integers(0, 4)))]
    found += [moved(rng, annotations[0]) | {"category_id": 3} for _ in range(260)]
    order = rng.permutation(len(found))
    return truth, [found[n] for n in order]


@pytest.fixture
def scoring(content: tuple[dict[str, Any], Any], tmp_path: Path) -> ScoringTruth:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content[0]), "utf-8")
    return read_truth(find_truth(path, "made"))
