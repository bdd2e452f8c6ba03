import time
from pathlib import Path

import numpy as np
import pytest

from backbones.base.errors import UserError
from detection.scoring.detections import (
    Detections,
    ImageDetections,
    check,
    collect,
    read_detections,
    write_detections,
)


def of_image(image_id: int, count: int, *, masks: bool = True) -> ImageDetections:
    rng = np.random.default_rng(image_id)
    return ImageDetections(
        image_id=image_id,
        height=40,
        width=60,
        boxes=rng.random((count, 4)).astype(np.float32) * 40,
        scores=rng.random(count).astype(np.float32),
        classes=rng.integers(0, 3, count).astype(np.int32),
        masks=[rng.bytes(5 + i) for i in range(count)] if masks else None,
    )


@pytest.fixture
def detections() -> Detections:
    return collect([of_image(9, 2), of_image(2**40, 0), of_image(3, 4)])


def assert_equal(first: Detections, second: Detections) -> None:
    for name in ("image_ids", "sizes", "ends", "boxes", "scores", "classes"):
        one, other = getattr(first, name), getattr(second, name)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    assert first.masks == second.masks


def test_images_come_in_order_of_their_ids(detections: Detections) -> None:
    assert detections.image_ids.tolist() == [3, 9, 2**40]
    assert detections.ends.tolist() == [4, 6, 6]
    assert detections.rows_images.tolist() == [0, 0, 0, 0, 1, 1]
    assert np.array_equal(detections.scores[4:], of_image(9, 2).scores)
    assert detections.rles()[5] == {"size": [40, 60], "counts": of_image(9, 2).masks[1]}
    assert len(detections) == 6


@pytest.mark.parametrize(
    "images",
    [
        [of_image(9, 2), of_image(3, 4)],
        [of_image(9, 2, masks=False)],
        [of_image(1, 0), of_image(2, 0)],
        [of_image(1, 0, masks=False)],
        [],
    ],
)
def test_round_trip(tmp_path: Path, images: list[ImageDetections]) -> None:
    path = tmp_path / "detections.npz"
    written = collect(images)
    write_detections(path, written)
    assert_equal(written, read_detections(path))


def test_equal_detections_give_equal_bytes(tmp_path: Path, detections: Detections) -> None:
    write_detections(tmp_path / "a.npz", detections)
    time.sleep(2.1)  # zip files count time in units of two seconds
    write_detections(
        tmp_path / "b.npz", collect([of_image(3, 4), of_image(2**40, 0), of_image(9, 2)])
    )
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_torn_file_is_one_sentence(tmp_path: Path, detections: Detections, share: float) -> None:
    path = tmp_path / "detections.npz"
    write_detections(path, detections)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="not a valid file of detections"):
        read_detections(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "detections.npz"
    for columns in ({"format": np.array("other")}, {"a": np.zeros(3)}):
        np.savez(path, **columns)
        with pytest.raises(UserError, match="not a valid file"):
            read_detections(path)
    np.savez(path, format=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="not a valid file"):
        read_detections(path)


def test_numbers_that_are_none_are_refused(detections: Detections) -> None:
    check(detections, 3)
    detections.scores[4] = np.nan
    with pytest.raises(UserError, match=r"1 detections .* image 9.* diverged"):
        check(detections, 3)
    detections.scores[4] = 1
    detections.boxes[0, 2] = np.inf
    with pytest.raises(UserError, match="image 3"):
        check(detections, 3)


def test_unknown_classes_are_refused(detections: Detections) -> None:
    detections.classes[:] = 2
    with pytest.raises(UserError, match="outside the 2 of the data"):
        check(detections, 2)


def test_no_masks_is_not_empty_masks() -> None:
    assert collect([of_image(1, 0)]).masks == []
    assert collect([of_image(1, 3, masks=False)]).masks is None
    with pytest.raises(ValueError, match="no masks"):
        collect([of_image(1, 3, masks=False)]).rles()
