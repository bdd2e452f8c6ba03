"""What exporters and scripts get wrong in whole files: refused with the cause, or said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as rle_tools
import pytest
from PIL import Image

from backbones.base.errors import PreflightError
from detection.data.dataset import CocoData, find_coco
from detection.data.facts import read_facts
from tests.detection.data.test_truth import HEIGHT, WIDTH, bent, make, read

Annotation = dict[str, Any]
Content = dict[str, Any]


def points_of(annotation: Annotation) -> list[list[float]]:
    (numbers,) = annotation["segmentation"]
    return [numbers[at : at + 2] for at in range(0, len(numbers), 2)]


def rle_of(annotation: Annotation) -> dict[str, Any]:
    runs: dict[str, Any] = rle_tools.merge(
        rle_tools.frPyObjects(annotation["segmentation"], HEIGHT, WIDTH)
    )
    return runs


MASKS: dict[str, tuple[Callable[[Annotation], Any], str]] = {
    "one list": (lambda a: a["segmentation"][0], "look like one list of numbers"),
    "points": (points_of, "look like lists of points"),
    "points in a list": (lambda a: [points_of(a)], "look like lists of points"),
    "points with names": (
        lambda a: [[{"x": x, "y": y} for x, y in points_of(a)]], "look like lists of points"),
    "text": (lambda a: [[str(v) for v in a["segmentation"][0]]], "polygons look like text"),
    "JSON in text": (lambda a: json.dumps(a["segmentation"]), "look like JSON within text"),
    "bytes as text": (
        lambda a: {**rle_of(a), "counts": str(rle_of(a)["counts"])}, "Python's bytes as text"),
    "run lengths in a list": (
        lambda a: [{**rle_of(a), "counts": rle_of(a)["counts"].decode()}], "wrapped in a list"),
}  # fmt: skip


@pytest.mark.parametrize(("write", "said"), MASKS.values(), ids=MASKS)
def test_masks_in_another_form_are_named(
    tmp_path: Path, write: Callable[[Annotation], Any], said: str
) -> None:
    content = bent(lambda a: a.update(segmentation=write(a)))
    with pytest.raises(PreflightError, match=f"masks that cannot be read: 90 of 90 .*{said}"):
        read(tmp_path, content)


BOXES: dict[str, tuple[Callable[..., list[float]], str]] = {
    "y0, x0, y1, x1": (lambda x, y, w, h: [y, x, y + h, x + w], "look like y0, x0, y1, x1"),
    "x0, x1, y0, y1": (lambda x, y, w, h: [x, x + w, y, y + h], "look like x0, x1, y0, y1"),
    "per cent": (
        lambda x, y, w, h: [100 * v for v in (x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT)],
        r"look like shares of the image in 0\.\.100"),
}  # fmt: skip


@pytest.mark.parametrize(("write", "said"), BOXES.values(), ids=BOXES)
def test_boxes_in_another_form_are_named(
    tmp_path: Path, write: Callable[..., list[float]], said: str
) -> None:
    content = bent(lambda a: a.update(bbox=write(*a["bbox"])), masks=False)
    for annotation in content["annotations"]:
        del annotation["area"]
    with pytest.raises(PreflightError, match=f"boxes {said}"):
        read(tmp_path, content)


@pytest.mark.parametrize("factor", [0.25, 0.5, 2, 4])
def test_areas_of_scaled_images_are_computed(tmp_path: Path, factor: float) -> None:
    content = bent(lambda a: a.update(area=a["area"] * factor))
    found = read(tmp_path, content)
    assert "areas contradict masks and boxes, all computed: 90" in found.notes[0]
    truth = read(tmp_path, make())
    assert [i["annotations"] for i in found.images] == [i["annotations"] for i in truth.images]


def test_areas_of_boxes_next_to_masks_stay(tmp_path: Path) -> None:
    """Roboflow writes them; triangles are half of their boxes."""

    def halve(annotation: Annotation) -> None:
        annotation["segmentation"] = [annotation["segmentation"][0][:6]]

    found = read(tmp_path, bent(halve))
    assert found.notes == ()


def test_boxes_of_smaller_images_are_told(tmp_path: Path) -> None:
    def shrink(annotation: Annotation) -> None:
        annotation["bbox"] = [v / 2 for v in annotation["bbox"]]
        annotation["area"] /= 4

    small = bent(shrink, num_images=60, masks=False)
    (note,) = read(tmp_path, small).notes
    assert "no box reaches beyond 50 % of the width and 50 % of the height of its image" in note

    def centre(annotation: Annotation) -> None:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [WIDTH / 4 + x / 2, HEIGHT / 4 + y / 2, w / 2, h / 2]
        annotation["area"] /= 4

    # Objects in the middle of their images are as they should be.
    assert read(tmp_path, bent(centre, num_images=60, masks=False)).notes == ()


def change_names(root: Path, content: Content, rename: Callable[[str], str]) -> CocoData:
    for image in content["images"]:
        image["file_name"] = rename(image["file_name"])
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(content))
    return find_coco(root)


@pytest.mark.parametrize(
    ("rename", "there"),
    [
        (lambda name: f"train2017/{name}", "1.png"),
        (lambda name: f"train2017\\{name}", "1.png"),
        (lambda name: name.replace(".png", ".PNG"), "1.png"),
        (lambda name: f"http://host/x/{name}", "1.png"),
        (lambda name: f"%31{name[1:]}" if name[0] == "1" else name, "1.png"),
    ],
)
def test_the_file_that_is_probably_meant_is_named(
    tmp_path: Path,
    write_coco: Callable[..., Path],
    coco_content: Callable[..., Content],
    rename: Callable[[str], str],
    there: str,
) -> None:
    data = change_names(write_coco(), coco_content(), rename)
    with pytest.raises(PreflightError, match=f"; {there} exists there, so correct the names"):
        read_facts(data, tmp_path / "cache")


def test_absent_files_without_a_likely_one_are_only_named(
    tmp_path: Path, write_coco: Callable[..., Path]
) -> None:
    data = find_coco(write_coco())
    (data.image_folder("train") / "1.png").unlink()
    (data.image_folder("train") / "1.png").symlink_to("/nowhere/1.png")
    with pytest.raises(PreflightError, match=r"1 of 4 images .*: 1\.png\.$"):
        read_facts(data, tmp_path / "cache")


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png"])
def test_stacks_and_animations_are_told(
    tmp_path: Path, write_coco: Callable[..., Path], coco_content: Callable[..., Content],
    suffix: str,
) -> None:  # fmt: skip
    content = coco_content()
    root = write_coco(content)
    name = f"stack.{suffix}"
    first, second = (Image.new("RGB", (64, 48), (level, 0, 0)) for level in (100, 200))
    first.save(root / "train2017" / name, save_all=True, append_images=[second])
    data = change_names(root, content, lambda old: name if old == "2.png" else old)
    (note,) = [n for n in read_facts(data, tmp_path / "cache").notes if "frames" in n]
    assert note == (
        f"1 train images hold several frames (first: {name}), of which only the first is used."
    )


def test_a_phones_jpeg_with_a_second_picture_is_one_image(
    tmp_path: Path, write_coco: Callable[..., Path], coco_content: Callable[..., Content]
) -> None:
    content = coco_content()
    root = write_coco(content)
    first, second = (Image.new("RGB", (64, 48), (level, 0, 0)) for level in (100, 200))
    first.save(root / "train2017" / "1.mpo", save_all=True, append_images=[second])
    data = change_names(root, content, lambda old: "1.mpo" if old == "1.png" else old)
    assert not any("frames" in note for note in read_facts(data, tmp_path / "cache").notes)


def test_classes_that_only_validation_has_are_told(
    tmp_path: Path, write_coco: Callable[..., Path], coco_content: Callable[..., Content]
) -> None:
    train = coco_content()
    train["annotations"] = [a for a in train["annotations"] if a["category_id"] == 2]
    notes = read_facts(find_coco(write_coco(train)), tmp_path / "cache").notes
    assert (
        "1 of 2 classes have validation objects and no training object ('dog'), so they cannot be "
        "found and lower the scores." in notes
    )


def test_one_picture_in_place_of_all_is_named(
    tmp_path: Path, write_coco: Callable[..., Path], coco_content: Callable[..., Content]
) -> None:
    content = coco_content(20)
    random = np.random.default_rng(0)
    for annotation in content["annotations"]:
        annotation.pop("segmentation")
        annotation["bbox"][0] = float(random.integers(0, 30))
    root = write_coco(content)
    for path in (root / "train2017").iterdir():
        Image.new("RGB", (64, 48)).save(path)
    with pytest.raises(PreflightError, match=r"20 of 20 .*one picture stands in place of many"):
        read_facts(find_coco(root), tmp_path / "cache")
