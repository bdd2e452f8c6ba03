"""Matches on disk."""

from pathlib import Path

import numpy as np
import pytest

from detection.scoring.matches import DetectionMatches, KindMatches, read_matches, write_matches


@pytest.mark.parametrize("count", [0, 3])
def test_they_come_back_also_where_a_detector_found_nothing(count: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(count)
    matches = DetectionMatches(
        image_ids=np.array([4, 7], dtype=np.int64),
        class_names=("cat", "dog"),
        images=np.zeros(count, dtype=np.int32),
        classes=np.zeros(count, dtype=np.int32),
        scores=np.zeros(count, dtype=np.float32),
        object_images=np.array([0], dtype=np.int32),
        object_classes=np.array([1], dtype=np.int32),
        object_sizes=np.ones((1, 4), dtype=bool),
        kinds={"box": KindMatches(*(rng.random((2, count, 4, 10)) < 0.5))},
    )
    write_matches(tmp_path / "matches.npz", matches)
    found = read_matches(tmp_path / "matches.npz")
    assert found.class_names == matches.class_names
    assert np.array_equal(found.kinds["box"].matched, matches.kinds["box"].matched)
    assert np.array_equal(found.kinds["box"].ignored, matches.kinds["box"].ignored)
