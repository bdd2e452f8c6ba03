"""Lists of classes are read by one rule; what fits two is refused with both."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.base.errors import PreflightError
from benchmarks.labelled.sets.class_lists import read_class_list
from benchmarks.labelled.sets.folders import find_labelled
from benchmarks.labelled.sets.subsets import hold_out, others

XY = ("x", "y")
THREE = ["im1.jpg", "im2.jpg", "im3.jpg"]
READ = {
    "folders 1, 2, 3 and numbers from 0": (
        "im1.jpg 0\nim2.jpg 1\nim3.jpg 2\n", THREE, ("1", "2", "3"), [0, 1, 2]),
    "folders 0, 5, 7 and numbers from 0": (
        "im1.jpg 0\nim2.jpg 1\nim3.jpg 2\n", THREE, ("0", "5", "7"), [0, 1, 2]),
    "folders 0 to 2 either way": (
        "im1.jpg 2\nim2.jpg 1\nim3.jpg 0\n", THREE, ("0", "1", "2"), [2, 1, 0]),
    "names": ("im1.jpg x\nim2.jpg y\nim3.jpg x\n", THREE, XY, [0, 1, 0]),
    "commas, folder, windows": (
        "\ufeffval/im1.jpg,0\r\nval/im2.jpg,1\r\nval/im3.jpg,1\r\n", THREE, XY, [0, 1, 1]),
    "without suffix": ("im1 x\nim2 y\nim3 y\n", THREE, XY, [0, 1, 1]),
    "one stem, two files": ("im.jpg x\nim.png y\n", ["im.jpg", "im.png"], XY, [0, 1]),
    "folders tell images apart": ("1/im.jpg x\n2/im.jpg y\n", ["1/im.jpg", "2/im.jpg"], XY, [0, 1]),
    "blanks in names": ("im 1.jpg x\nim 2.jpg y\n", ["im 1.jpg", "im 2.jpg"], XY, [0, 1]),
    "blanks in classes": (
        "im1.jpg new york\nim2.jpg paris\n", THREE[:2], ("new york", "paris"), [0, 1]),
    "the class in front": ("x im1.jpg\ny im2.jpg\n", THREE[:2], XY, [0, 1]),
    "tiny-imagenet": ("im1.jpg\tx\t0\t0\t62\t57\nim2.jpg\ty\t3\t3\t5\t5\n", THREE[:2], XY, [0, 1]),
    "kaggle": (
        "ImageId,PredictionString\nim1,x 1 2 3 4 x 5 6 7 8\nim2,y 1 2 3 4\n",
        THREE[:2], XY, [0, 1]),
    "folders 1, 2, 9, 10 by name": (
        "im1.jpg 10\nim2.jpg 9\nim3.jpg 2\n", THREE, ("1", "10", "2", "9"), [1, 3, 2]),
    "padded numbers, in every order": (
        "im1.jpg 0\nim2.jpg 1\nim3.jpg 2\n", THREE, ("class_02", "class_09", "class_10"),
        [0, 1, 2]),
    "cases in every order": (
        "im1.jpg 0\nim2.jpg 1\nim3.jpg 2\n", THREE, ("Cat", "cat", "dog"), [0, 1, 2]),
    "only numbers that every order gives alike": (
        "im1.jpg 0\nim2.jpg 3\n", THREE[:2], ("a", "b10", "b2", "c"), [0, 3]),
    "classes of shards, whose numbers are stated": (
        "im1.jpg 2\nim2.jpg 10\n", THREE[:2], tuple(map(str, range(12))), [2, 10]),
    "listed twice alike": ("im1.jpg x\nim1.jpg x\nim2.jpg y\n", THREE[:2], XY, [0, 1]),
}  # fmt: skip
REFUSED = {
    "two readings": (
        "a.jpg 2\nb.jpg 10\n", ["a.jpg", "b.jpg"], tuple(sorted(map(str, range(12)))), "two ways"),
    "numeric order": (
        "im1.jpg 0\nim2.jpg 1\nim3.jpg 3\n", THREE, ("1", "10", "2", "9"),
        "two ways: class number 1 is '10' in string order and '2' in numeric order; write the"),
    "natural order": (
        "im1.jpg 0\nim2.jpg 1\n", THREE[:2], ("class_10", "class_2"),
        "number 0 is 'class_10' in string order and 'class_2' in natural order"),
    "case-insensitive order": (
        "im1.jpg 0\nim2.jpg 1\n", THREE[:2], ("Hat", "Shirt", "dress", "pants"),
        "number 0 is 'Hat' in string order and 'dress' in case-insensitive order"),
    "both orders at once": (
        "im1.jpg 0\nim2.jpg 1\n", THREE[:2], ("A10", "a2"),
        "'A10' in string order and 'a2' in natural case-insensitive order"),
    "negative numbers": (
        "im1.jpg 0\nim2.jpg 1\n", THREE[:2], ("-1", "-2"), "'-1' in string order and '-2' in num"),
    "digits after a dot": (
        "im1.jpg 0\nim2.jpg 1\n", THREE[:2], ("1.10", "1.9"), "and '1.9' in natural order"),
    "two classes": ("im1.jpg x\nim1.jpg y\n", THREE[:1], XY, "two classes: x in line 1 and y"),
    "one name, two folders": (
        "im.jpg x\nim.jpg y\n", ["1/im.jpg", "2/im.jpg"], XY, "2 images are meant"),
    "numbered from 1": ("im1.jpg 1\nim2.jpg 2\n", THREE[:2], XY, "'2' is neither a class"),
    "numbered from 1, or without the first class": (
        "im1.jpg 1\nim2.jpg 2\n", THREE[:2], ("x", "y", "z"),
        "two ways: .* begin at 0 and x has no image, or they begin at 1 and z has none"),
    "mixed": ("im1.jpg x\nim2.jpg 1\n", THREE[:2], XY, "neither a class of train nor its number"),
    "missing": ("im1.jpg x\n", THREE, XY, "no class to 2 of 3 images"),
    "unknown class": ("im1.jpg z\n", THREE[:1], XY, "names no image and a class"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "names", "classes", "expected"), READ.values(), ids=READ)
def test_a_list_is_read(
    tmp_path: Path, text: str, names: list[str], classes: tuple[str, ...], expected: list[int]
) -> None:
    (tmp_path / "val.txt").write_text(text)
    assert read_class_list(tmp_path / "val.txt", names, classes) == expected


@pytest.mark.parametrize(("text", "names", "classes", "said"), REFUSED.values(), ids=REFUSED)
def test_a_list_is_refused(
    tmp_path: Path, text: str, names: list[str], classes: tuple[str, ...], said: str
) -> None:
    (tmp_path / "val.txt").write_text(text)
    with pytest.raises(PreflightError, match=said):
        read_class_list(tmp_path / "val.txt", names, classes)


def test_tiny_imagenet_as_it_unpacks(tmp_path: Path) -> None:
    names = [
        "train/n01/images/1.png",
        "train/n02/images/1.png",
        "val/images/a.png",
        "val/images/b.png",
    ]
    for name in names:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / name)
    (tmp_path / "set/val/val_annotations.txt").write_text("a.png\tn02\t0\t0\nb.png\tn01\t0\t0\n")
    found = find_labelled(tmp_path / "set", tmp_path / "cache")
    assert found.classes == ("n01", "n02")
    assert [found.val.label(number) for number in range(2)] == [1, 0]


def test_a_class_of_one_image_keeps_it() -> None:
    labels = np.array([0] * 10 + [1] + [2] * 2)
    held, kept_whole = hold_out(labels, 0.1, 0)
    assert kept_whole == (1,)
    assert set(labels[others(len(labels), held)]) == {0, 1, 2}
    assert sorted(labels[held]) == [0, 2]
