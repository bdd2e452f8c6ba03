"""Folders of labelled images as people have them: read with the right classes, or refused."""

import io
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from backbones.base.errors import PreflightError
from benchmarks.labelled.sets.folders import LabelledImages, find_labelled
from benchmarks.tasks.knn.task import KnnTask
from pretrain.data.find import find_images


def tree(root: Path, files: Sequence[str]) -> Path:
    """Write images of different content."""
    for number, name in enumerate(files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(root / name)
    return root


def labels(found: LabelledImages) -> list[str]:
    """Return the class of each validation image."""
    return [found.classes[found.val.label(number)] for number in range(len(found.val))]


def splits(train: str, val: str) -> list[str]:
    return [f"{split}/{name}/{split}.png" for split in (train, val) for name in ("x", "y")]


def shard(folder: Path, numbers: Sequence[int]) -> None:
    """Write a tar shard with an image for each number of a class."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    folder.mkdir(parents=True)
    with tarfile.open(folder / "s-0.tar", "w") as tar:
        for place, number in enumerate(numbers):
            for name, content in (
                (f"{place}.png", buffer.getvalue()), (f"{place}.cls", str(number).encode()),
            ):  # fmt: skip
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


NAMES = [("train", "test"), ("train", "valid"), ("train", "validation"), ("Train", "Val"),
         ("training", "validation"), ("TRAIN", "TEST")]  # fmt: skip


@pytest.mark.parametrize(("train", "val"), NAMES)
def test_splits_have_several_names(tmp_path: Path, train: str, val: str) -> None:
    found = find_labelled(tree(tmp_path / "set", splits(train, val)), tmp_path / "cache")
    assert found.classes == ("x", "y")
    assert labels(found) == ["x", "y"]
    assert KnnTask().find_data({"imagenet": tmp_path / "set"}).path == tmp_path / "set"
    # A pretraining sees the training images only.
    assert len(find_images(tmp_path / "set", tmp_path / "cache")) == 2
    assert {found.val.name_of(n).split("/")[-3] for n in range(2)} == {val}


def test_val_is_meant_where_there_is_a_test_folder_too(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", [*splits("train", "val"), "test/x/other.png", "test/z/1.png"])
    assert len(find_labelled(root, tmp_path / "cache").val) == 2


def test_a_sets_identity_is_not_in_the_names_of_its_folders(tmp_path: Path) -> None:
    one = find_labelled(tree(tmp_path / "a", splits("train", "val")), tmp_path / "cache")
    (tmp_path / "a" / "val").rename(tmp_path / "a" / "Validation")
    two = find_labelled(tmp_path / "a", tmp_path / "cache")
    assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize(
    ("files", "lists", "expected"),
    [
        (["train/n01/images/1.png", "train/n02/images/1.png", "val/n01/images/2.png",
          "val/n02/images/2.png"], {}, ["n01", "n02"]),
        ([f"{s}/{c}/1.png" for s in ("train", "val") for c in map(str, range(12))], {},
         sorted(map(str, range(12)))),
        ([f"{s}/{c}/1.png" for s in ("train", "val") for c in ("Cat", "cat")], {}, ["Cat", "cat"]),
        (["ILSVRC/Data/CLS-LOC/train/n01/1.png", "ILSVRC/Data/CLS-LOC/train/n02/1.png",
          "ILSVRC/Data/CLS-LOC/val/a.png", "ILSVRC/Data/CLS-LOC/val/b.png"],
         {"LOC_val_solution.csv": "ImageId,PredictionString\na,n02 1 2 3 4\nb,n01 1 2 3 4\n"},
         ["n02", "n01"]),
    ],
    ids=["folders within classes", "numbers", "case", "Kaggle's ImageNet"],
)  # fmt: skip
def test_a_layout_is_read(
    tmp_path: Path, files: list[str], lists: dict[str, str], expected: list[str]
) -> None:
    root = tree(tmp_path / "set", files)
    for name, text in lists.items():
        (root / name).write_text(text)
    assert labels(find_labelled(root, tmp_path / "cache")) == expected


def test_a_class_folder_empty_in_both_splits_is_no_class(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", splits("train", "val"))
    for split in ("train", "val"):
        (root / split / "z").mkdir()
    assert find_labelled(root, tmp_path / "cache").classes == ("x", "y")


def test_copies_of_images_are_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", splits("train", "val"))
    shutil.copy(root / "train/x/train.png", root / "train/y/other.png")
    shutil.copy(root / "train/x/train.png", root / "val/x/other.png")
    shutil.copy(root / "train/x/train.png", root / "train/x/same.png")
    found = find_labelled(root, tmp_path / "cache")
    assert [note.split(" (first")[0] for note in found.val.notes] == [
        "1 of 4 training images equal another byte for byte and have another class",
        "1 of 3 validation images are training images too, byte for byte",
    ]
    # A list gives classes to the same files.
    (root / "val.txt").write_text("other.png y\nval0.png x\nval1.png y\n")
    for number, name in enumerate(("x", "y")):
        (root / "val" / name / "val.png").rename(root / "val" / f"val{number}.png")
    (root / "val" / "x" / "other.png").rename(root / "val" / "other.png")
    for name in ("x", "y"):
        (root / "val" / name).rmdir()
    (note,) = [n for n in find_labelled(root, tmp_path / "cache").val.notes if "too high" in n]
    assert "1 of 3 validation images are training images too" in note


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["x/1.png", "y/1.png"], "has no folder train"),
        ([*splits("train", "val"), "train/z/1.png"], r"differ: val lacks 1 of them \(z\)"),
        ([*splits("train", "val"), "train/stray.png"],
         r"1 of 3 images of train lie in no folder of a class \(stray.png\)"),
        ([*splits("train", "val"), "val/stray.png"],
         r"1 of 3 images of val lie in no folder of a class \(stray.png\)"),
        (["train/x/1.png", "train/y/1.png", "val/1.png"], "have no classes: put each"),
    ],
)  # fmt: skip
def test_a_layout_is_refused(tmp_path: Path, files: list[str], said: str) -> None:
    with pytest.raises(PreflightError, match=said):
        find_labelled(tree(tmp_path / "set", files), tmp_path / "cache")


@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        ([0, 1, 2, 3], [0, 1, 3], ["0", "1", "3"]),
        ([0, 1, 2, 3], [0, 1, 2], ["0", "1", "2"]),
        ([1, 2, 3], [1, 2, 3], ["1", "2", "3"]),
    ],
)
def test_shards_keep_their_numbers_where_val_lacks_a_class(
    tmp_path: Path, train: list[int], val: list[int], expected: list[str]
) -> None:
    for split, numbers in (("train", train), ("val", val)):
        shard(tmp_path / "set" / split, numbers)
    assert labels(find_labelled(tmp_path / "set", tmp_path / "cache")) == expected


def test_folders_and_shards_of_one_set_number_classes_alike(tmp_path: Path) -> None:
    # Ten folders sort as their numbers do; of twelve, "10" comes before "2".
    for count in (10, 12):
        root = tree(tmp_path / str(count), [f"train/{name}/1.png" for name in range(count)])
        shard(root / "val", range(count))
    assert labels(find_labelled(tmp_path / "10", tmp_path / "cache")) == list("0123456789")
    with pytest.raises(PreflightError, match="number 2 is '10' in train and '2' in val; keep both"):
        find_labelled(tmp_path / "12", tmp_path / "cache")


@pytest.mark.parametrize(("names", "refused"), [(("2", "10"), True), (("n01", "n02"), False)])
def test_reassessed_labels_are_refused_where_classes_sort_in_two_ways(
    tmp_path: Path, names: Sequence[str], refused: bool
) -> None:
    root = tree(tmp_path / "set", [f"{s}/{c}/{s}.png" for s in ("train", "val") for c in names])
    (root / "real.json").write_text("[[0], [1]]")
    if not refused:
        assert find_labelled(root, tmp_path / "cache").classes == names
        return
    with pytest.raises(PreflightError, match=r"real.json can .* number 0 is '10' .* WordNet ID"):
        find_labelled(root, tmp_path / "cache")
