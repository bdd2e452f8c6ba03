"""Sets as torchvision keeps them on disk, written here in miniature by its own layouts."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.errors import PreflightError
from backbones.images import decode
from benchmarks.data.roots import DataRoot
from benchmarks.imagenet.folders import labels_of, open_labelled, read_facts
from benchmarks.imagenet.vision_sets import about_mean_class, vision_set
from benchmarks.suites import get_task


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (28, 28), dtype=np.uint8)


def write_mnist(root: Path) -> None:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for stem, seeds in (("train", range(4)), ("t10k", range(4, 7))):
        images = np.stack([pixels(seed) for seed in seeds])
        head = struct.pack(">IIII", 0x803, len(images), 28, 28)
        labels = struct.pack(">II", 0x801, len(images)) + bytes(seed % 10 for seed in seeds)
        for name, content in (
            (f"{stem}-images-idx3-ubyte", head + images.tobytes()),
            (f"{stem}-labels-idx1-ubyte", labels),
        ):
            (folder / name).write_bytes(content)
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))


def write_dtd(root: Path) -> None:
    folder = root / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    for split, numbers in (("train", (0, 1)), ("val", (2,)), ("test", (3,))):
        names = []
        for name in ("banded", "woven"):
            for number in numbers:
                path = folder / "images" / name / f"{name}_{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels(number)).save(path)
                names.append(f"{name}/{path.name}")
        (folder / "labels" / f"{split}1.txt").write_text("\n".join(names))


def write_pets(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations" / "trimaps").mkdir(parents=True)
    for split, number in (("trainval", 1), ("test", 2)):
        lines = []
        for label, name in enumerate(("Abyssinian", "beagle")):
            Image.fromarray(pixels(number)).save(folder / "images" / f"{name}_{number}.jpg")
            lines.append(f"{name}_{number} {label + 1} {label + 1} 1")
        (folder / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")


def data(root: Path, name: str = "mine") -> DataRoot:
    return DataRoot("imagenet", name, root, "--data")


def test_a_set_of_numbers_gives_every_pixel(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    images = open_labelled(data(tmp_path), tmp_path / "cache")
    assert (len(images.train), len(images.val), len(images.classes)) == (4, 3, 10)
    assert labels_of(images.val).tolist() == [4, 5, 6]
    found = np.asarray(decode(images.val.read(1)))
    assert np.array_equal(found, np.repeat(pixels(5)[..., None], 3, axis=2))
    facts = read_facts(data(tmp_path), tmp_path / "cache")
    assert (facts.num_train, facts.num_test) == (4, 3)


def test_validation_images_are_trained_on(tmp_path: Path) -> None:
    write_dtd(tmp_path)
    images = open_labelled(data(tmp_path), tmp_path / "cache")
    assert [Path(images.train.name_of(i)).name for i in range(6)] == [
        *("banded_0.jpg", "banded_1.jpg", "woven_0.jpg", "woven_1.jpg"),
        *("banded_2.jpg", "woven_2.jpg"),
    ]
    assert labels_of(images.train).tolist() == [0, 0, 1, 1, 0, 1]
    assert (labels_of(images.val).tolist(), images.classes) == ([0, 1], ("banded", "woven"))


def test_content_decides_the_fingerprint(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_mnist(tmp_path / folder)
    prints = [read_facts(data(tmp_path / n), tmp_path / "c").fingerprint for n in ("one", "two")]
    assert prints[0] == prints[1]
    file = tmp_path / "two" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + b"\x09")
    assert read_facts(data(tmp_path / "two"), tmp_path / "c").fingerprint != prints[0]


def test_a_name_chooses_among_several_sets(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_dtd(tmp_path)
    assert vision_set(data(tmp_path, "dtd")).reader == "DTD"
    with pytest.raises(PreflightError, match=r"several sets \(dtd, mnist\); name one: --data dtd="):
        vision_set(data(tmp_path))


def test_sets_that_are_reported_by_class_say_so(tmp_path: Path) -> None:
    write_pets(tmp_path)
    images = open_labelled(data(tmp_path), tmp_path / "cache")
    assert images.classes == ("Abyssinian", "Beagle")
    assert about_mean_class(data(tmp_path)) == [
        "papers report mine as mean per class: read the …_mean_class numbers, not top1"
    ]
    # The same for the set in folders, by its name; others keep to accuracy.
    (tmp_path / "folders" / "train").mkdir(parents=True)
    assert about_mean_class(data(tmp_path / "folders", "pets"))
    assert not about_mean_class(data(tmp_path / "folders", "food101"))


def test_missing_files_and_unknown_folders_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "MNIST").mkdir()
    with pytest.raises(
        PreflightError, match=r"torchvision's MNIST cannot read .* download the set"
    ):
        open_labelled(data(tmp_path), tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PreflightError, match="or as torchvision keeps aircraft, cars, cifar10"):
        get_task("knn").find_data({"mine": tmp_path / "empty"})
