"""Images that are copies of others: with other annotations, or training images in validation."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from backbones.base.errors import PreflightError
from detection.data.dataset import CocoData, find_coco
from detection.data.facts import DataFacts, read_facts

Content = dict[str, Any]


def smooth(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Return a blurred picture, which survives JPEG as photographs do."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size).filter(ImageFilter.GaussianBlur(1))


@pytest.fixture
def make(
    write_coco: Callable[..., Path], coco_content: Callable[..., Content]
) -> Callable[..., CocoData]:
    """Return a maker of data whose pictures all differ, before ``change(root, train, val)``."""

    def made(change: Callable[[Path, Content, Content], None], num_images: int = 20) -> CocoData:
        train, val = coco_content(num_images), coco_content(num_images)
        root = write_coco(train, val)
        for number in range(num_images):
            for split, start in (("train", 0), ("val", 1000)):
                smooth(start + number).save(root / f"{split}2017" / f"{number + 1}.png")
        change(root, train, val)
        return find_coco(write_coco_json(root, train, val))

    return made


def write_coco_json(root: Path, train: Content, val: Content) -> Path:
    for split, content in (("train", train), ("val", val)):
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    return root


def annotations_of(content: Content, image: int) -> list[Content]:
    return [a for a in content["annotations"] if a["image_id"] == image]


def copy_image(root: Path, of: int, to: int, split: str = "train") -> None:
    folder = root / f"{split}2017"
    shutil.copy(folder / f"{of}.png", folder / f"{to}.png")


def notes_of(tmp_path: Path, data: CocoData) -> tuple[str, ...]:
    facts: DataFacts = read_facts(data, tmp_path / "cache")
    return facts.notes


def test_a_copy_with_other_annotations_is_counted(
    tmp_path: Path, make: Callable[..., CocoData]
) -> None:
    def change(root: Path, train: Content, val: Content) -> None:
        del val
        copy_image(root, 3, 5)
        annotations_of(train, 5)[0]["bbox"] = [2.0, 2.0, 30.0, 20.0]
        annotations_of(train, 5)[0].pop("segmentation")
        for annotation in train["annotations"]:
            annotation.pop("segmentation", None)

    (note,) = [n for n in notes_of(tmp_path, make(change)) if "byte for byte" in n]
    assert "instances_train2017.json" in note
    assert "other annotations, kept: 2 (first: image 3)" in note


def test_a_copy_with_another_class_is_counted(
    tmp_path: Path, make: Callable[..., CocoData]
) -> None:
    def change(root: Path, train: Content, val: Content) -> None:
        del train
        copy_image(root, 3, 5, "val")
        one = annotations_of(val, 5)[0]
        one["category_id"] = 9 - one["category_id"]

    (note,) = notes_of(tmp_path, make(change))
    assert "instances_val2017.json: images that equal another byte for byte" in note


def test_copies_that_agree_are_no_contradiction(
    tmp_path: Path, make: Callable[..., CocoData]
) -> None:
    def change(root: Path, train: Content, val: Content) -> None:
        del val
        copy_image(root, 3, 5)  # image 5 has the same objects
        for annotation in annotations_of(train, 5):
            annotation["bbox"][0] += 0.3

    assert notes_of(tmp_path, make(change)) == ()


def parts(root: Path, train: Content, val: Content) -> None:
    """List every image once for each of its objects, as exports by object do."""
    del val
    train["images"] = []
    for place, annotation in enumerate(train["annotations"]):
        source = annotation["image_id"]
        name = f"copy{place}.png"
        shutil.copy(root / "train2017" / f"{source}.png", root / "train2017" / name)
        number = 1000 + place
        train["images"].append({"id": number, "file_name": name, "width": 64, "height": 48})
        annotation["image_id"] = number


def forgotten(root: Path, train: Content, val: Content) -> None:
    """Copy images and annotate one of each pair only."""
    del val
    for image in range(1, 20, 2):
        copy_image(root, image, image + 1)
        for annotation in annotations_of(train, image + 1):
            train["annotations"].remove(annotation)


def twice(root: Path, train: Content, val: Content) -> None:
    """Let one object of each copy be of another class."""
    del val
    for image in range(1, 20, 2):
        copy_image(root, image, image + 1)
        one = annotations_of(train, image + 1)[0]
        one["category_id"] = 9 - one["category_id"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (parts, "40 of 40 .*each copy of an image looks annotated with a part of its objects"),
        (forgotten, "20 of 20 .*copies without annotations look forgotten"),
        (twice, r"20 of 20 \(images 1, 2, 3 .*annotated at different times; keep one of each"),
    ],
)
def test_many_such_copies_are_refused_with_their_cause(
    tmp_path: Path, make: Callable[..., CocoData], change: Any, said: str
) -> None:
    with pytest.raises(PreflightError, match=said):
        read_facts(make(change), tmp_path / "cache")


def test_validation_images_that_are_training_images_saved_again_are_told(
    tmp_path: Path, make: Callable[..., CocoData]
) -> None:
    def change(root: Path, train: Content, val: Content) -> None:
        del train
        for image in (2, 3):
            with Image.open(root / "train2017" / f"{image}.png") as shown:
                name = f"renamed{image}.jpg"
                shown.save(root / "val2017" / name, quality=60)
            val["images"][image - 1]["file_name"] = name

    (note,) = notes_of(tmp_path, make(change))
    assert note.endswith("so the scores are too high.")
    assert "2 of 20 that were compared show the same picture" in note
    assert "renamed" in note


def test_equal_boxes_on_other_pictures_are_not_told(
    tmp_path: Path, make: Callable[..., CocoData]
) -> None:
    assert notes_of(tmp_path, make(lambda root, train, val: None)) == ()


def test_plain_pictures_with_equal_boxes_are_not_told(
    tmp_path: Path, make: Callable[..., CocoData]
) -> None:
    """As drawn grids of objects on grey: their thumbnails differ by a level or two."""

    def change(root: Path, train: Content, val: Content) -> None:
        del train, val
        for number in range(1, 21):
            for split, level in (("train", 100), ("val", 101)):
                picture = Image.new("RGB", (64, 48), (level, level, 100 + number))
                picture.save(root / f"{split}2017" / f"{number}.png")

    assert notes_of(tmp_path, make(change)) == ()


def test_saved_again_with_other_boxes_is_another_image(
    tmp_path: Path, make: Callable[..., CocoData]
) -> None:
    """Without the same boxes, pictures are not compared: that would take minutes on COCO."""

    def change(root: Path, train: Content, val: Content) -> None:
        for annotation in (*train["annotations"], *val["annotations"]):
            annotation.pop("segmentation")
        with Image.open(root / "train2017" / "2.png") as shown:
            shown.save(root / "val2017" / "2.png", compress_level=0)
        for annotation in annotations_of(val, 2):
            annotation["bbox"][0] += 3

    assert notes_of(tmp_path, make(change)) == ()
