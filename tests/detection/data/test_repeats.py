"""Doubled annotations, placeholder boxes and boxes that are corners in part."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backbones.base.errors import PreflightError
from tests.detection.data.test_truth import HEIGHT, WIDTH, make, read, to_centre, to_corners

Content = dict[str, Any]


def doubled(every: int = 1, move: float = 0.0, **changes: Any) -> Content:
    content = make()
    content["categories"].append({"id": 2, "name": "ring", "supercategory": "shape"})
    for annotation in copy.deepcopy(content["annotations"][::every]):
        x, y, w, h = annotation["bbox"]
        annotation.update(id=annotation["id"] + 1000, bbox=[x + move, y, w, h], **changes)
        content["annotations"].append(annotation)
    return content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (doubled(), "repeat class and box of another: 90 of 180 .* annotated twice"),
        (doubled(move=0.01), "repeat class and box of another: 90 of 180 .* annotated twice"),
        (doubled(category_id=2), "box of another class: 90 of 180 .* under two classes"),
    ],
    ids=["same", "nearly the same", "other class"],
)
def test_doubled_annotations_are_refused(tmp_path: Path, content: Content, said: str) -> None:
    with pytest.raises(PreflightError, match=said):
        read(tmp_path, content)


@pytest.mark.parametrize(("category", "said"), [(1, "class and box"), (2, "another class")])
def test_few_repeats_are_kept_and_said(tmp_path: Path, category: int, said: str) -> None:
    found = read(tmp_path, doubled(every=30, category_id=category))
    (note,) = found.notes
    assert said in note
    assert "kept: 3 (first: annotation 1001)" in note
    assert sum(len(image["annotations"]) for image in found.images) == 93


def test_crowds_and_neighbours_are_not_repeats(tmp_path: Path) -> None:
    assert read(tmp_path, doubled(every=10, move=3)).notes == ()
    assert not any("repeat" in note for note in read(tmp_path, doubled(iscrowd=1)).notes)


def whole(every: int) -> Content:
    content = make(num_images=90, objects=1, masks=False)
    for annotation in content["annotations"][::every]:
        annotation.update(bbox=[0, 0, WIDTH, HEIGHT], area=WIDTH * HEIGHT)
    return content


def test_boxes_that_are_their_images(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"whole image: 90 of 90 .* placeholders"):
        read(tmp_path, whole(1))
    (note,) = read(tmp_path, whole(2)).notes
    assert "45 of 90 boxes are their whole image" in note
    assert read(tmp_path, whole(10)).notes == ()


def test_one_box_for_all_images_is_said(tmp_path: Path) -> None:
    content = make(num_images=30, objects=1, masks=False)
    for annotation in content["annotations"]:
        annotation.update(bbox=[5, 5, 50, 40], area=2000)
    (note,) = read(tmp_path, content).notes
    assert "30 of 30 annotated images have the same box [5, 5, 50, 40]" in note


def in_part(change: Callable[[Content], None], every: int) -> Content:
    content = make(num_images=60, masks=False)
    for annotation in content["annotations"][::every]:
        change(annotation)
    return content


@pytest.mark.parametrize("every", [2, 3])
def test_corners_in_part_are_told_by_their_areas(tmp_path: Path, every: int) -> None:
    content = in_part(to_corners, every)
    count = 180 // every
    with pytest.raises(PreflightError, match=f"like xyxy in {count} of 180 annotations"):
        read(tmp_path, content)


def test_corners_in_part_without_areas_are_told_by_those_that_leave(tmp_path: Path) -> None:
    content = in_part(to_corners, 2)
    for annotation in content["annotations"]:
        del annotation["area"]
    with pytest.raises(PreflightError, match="as two corners these fit; in part, boxes look like"):
        read(tmp_path, content)


def test_centres_in_part_are_told_by_those_that_leave(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"right or bottom, and as centre.*in part, boxes"):
        read(tmp_path, in_part(to_centre, 2))


def test_boxes_cut_off_by_a_larger_image_are_no_centres(tmp_path: Path) -> None:
    """They leave at the right, as those of tiles do, and half of them by more than half."""

    def push(annotation: Content) -> None:
        _, y, w, h = annotation["bbox"]
        annotation["bbox"] = [WIDTH - w * (annotation["id"] % 9 + 1) / 10, y, w, h]

    found = read(tmp_path, in_part(push, 5))
    assert [note for note in found.notes if "clipped" in note]


def test_few_corners_are_read_as_such(tmp_path: Path) -> None:
    content = in_part(to_corners, 100)
    found = read(tmp_path, content)
    (note,) = found.notes
    assert "two corners (xyxy), read as such: 2 (first: annotation 1)" in note
    sound = read(tmp_path, make(num_images=60, masks=False))
    assert [i["annotations"] for i in found.images] == [i["annotations"] for i in sound.images]


def test_shifted_boxes_are_called_shifted(tmp_path: Path) -> None:
    def shift(annotation: Content) -> None:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x + 30, y + 30, w, h]

    with pytest.raises(PreflightError, match=r"boxes look shifted by about 29, 30 pixels \(x, y\)"):
        read(tmp_path, in_part(shift, 1))


def test_clipped_boxes_have_areas_of_what_is_left_and_nothing_else_is_said(tmp_path: Path) -> None:
    """The stated area is that of the whole box, so it is not a placeholder."""

    def push(annotation: Content) -> None:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x - 0.4 * w - x, y, w, h]

    found = read(tmp_path, in_part(push, 5))
    assert ["clipped: 36" in note for note in found.notes] == [True]
    for annotation in (a for image in found.images for a in image["annotations"]):
        assert annotation["area"] == pytest.approx(annotation["bbox"][2] * annotation["bbox"][3])


def test_exchanged_sides_of_images_are_one_of_two_causes(tmp_path: Path) -> None:
    content = make(num_images=60, masks=False)
    for image in content["images"]:
        image.update(width=HEIGHT, height=WIDTH)
    with pytest.raises(PreflightError, match="or width and height of the images, look exchanged"):
        read(tmp_path, content)
