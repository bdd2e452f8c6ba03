"""Sets as torchvision keeps them on disk, written here in miniature by its own layouts."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.base.errors import PreflightError
from backbones.base.images import decode
from benchmarks.data.roots import DataRoot
from benchmarks.labelled.sets.folders import labels_of, open_labelled, read_facts
from benchmarks.labelled.sets.vision_sets import VISION_SETS, about_mean_class, vision_set
from benchmarks.suites import get_task
from pretrain.data.images import ImageSet


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


def write_caltech(root: Path) -> None:
    for name, count in (("BACKGROUND_Google", 1), ("accordion", 32), ("beaver", 31)):
        folder = root / "caltech101" / "101_ObjectCategories" / name
        folder.mkdir(parents=True)
        for number in range(1, count + 1):
            Image.fromarray(pixels(number)).save(folder / f"image_{number:04d}.jpg")


def write_sun(root: Path, *lists: tuple[str, list[str]]) -> None:
    folder = root / "SUN397"
    for name in ("a/abbey/sun_b.jpg", "a/abbey/sun_a.jpg", "b/barn/sun_c.jpg", "b/barn/sun_d.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(len(name))).save(folder / name)
    (folder / "ClassName.txt").write_text("/a/abbey\n/b/barn\n")
    for name, lines in lists:
        (folder / f"{name}_01.txt").write_text("".join(f"/{line}\r\n" for line in lines))


def write_fer(root: Path, name: str, rows: list[tuple[object, ...]]) -> None:
    (root / "fer2013").mkdir(parents=True, exist_ok=True)
    (root / "fer2013" / name).write_text("\n".join(",".join(map(str, row)) for row in rows))


def in_folders(images: ImageSet) -> list[str]:
    return ["/".join(Path(images.name_of(i)).parts[-2:]) for i in range(len(images))]


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


def test_thirty_images_of_each_class_are_trained_on(tmp_path: Path) -> None:
    write_caltech(tmp_path)
    images = open_labelled(data(tmp_path), tmp_path / "cache")
    assert images.classes == ("accordion", "beaver")
    assert np.bincount(labels_of(images.train)).tolist() == [30, 30]
    assert labels_of(images.val).tolist() == [0, 0, 1]
    assert len({*in_folders(images.train), *in_folders(images.val)}) == 63
    again = open_labelled(data(tmp_path), tmp_path / "other")
    assert in_folders(again.train) == in_folders(images.train)
    assert about_mean_class(data(tmp_path))
    (tmp_path / "caltech101" / "101_ObjectCategories" / "beaver" / "image_0031.jpg").unlink()
    with pytest.raises(PreflightError, match="beaver has 30 images; 30 of each class are trained"):
        open_labelled(data(tmp_path), tmp_path / "cache")


def test_official_lists_divide_a_set(tmp_path: Path) -> None:
    train, test = ["b/barn/sun_d.jpg", "a/abbey/sun_a.jpg"], ["b/barn/sun_c.jpg"]
    write_sun(tmp_path, ("Training", train), ("Testing", test))
    images = open_labelled(data(tmp_path), tmp_path / "cache")
    assert in_folders(images.train) == ["barn/sun_d.jpg", "abbey/sun_a.jpg"]
    assert labels_of(images.train).tolist() == [1, 0]
    assert (in_folders(images.val), images.classes) == (["barn/sun_c.jpg"], ("abbey", "barn"))
    write_sun(tmp_path, ("Testing", ["b/barn/sun_e.jpg"]))
    with pytest.raises(PreflightError, match=r"Testing_01.txt names /b/barn/sun_e.jpg, which"):
        open_labelled(data(tmp_path), tmp_path / "cache")
    (tmp_path / "SUN397" / "Training_01.txt").unlink()
    with pytest.raises(PreflightError, match=r"Training_01.txt cannot be read; the set's lists"):
        open_labelled(data(tmp_path), tmp_path / "cache")


def test_faces_are_read_from_their_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The reader knows the checksum of the real table.
    monkeypatch.setattr("torchvision.datasets.fer2013.check_integrity", lambda path, md5: True)
    images = {use: np.full(48 * 48, 20 * n) for n, use in enumerate(("Training", "PublicTest"))}
    grey = {use: " ".join(map(str, image)) for use, image in images.items()}
    write_fer(tmp_path / "apart", "train.csv", [("emotion", "pixels"), (3, grey["Training"])])
    write_fer(tmp_path / "apart", "test.csv", [("pixels",), (grey["PublicTest"],)])
    with pytest.raises(PreflightError, match=r"no classes of test images .* fer2013\.csv"):
        open_labelled(data(tmp_path / "apart"), tmp_path / "cache")
    rows: list[tuple[object, ...]] = [(6, grey["Training"], "Training")]
    rows += [(emotion, grey[use], use) for emotion, use in ((3, "Training"), (6, "PublicTest"))]
    write_fer(tmp_path / "whole", "fer2013.csv", [("emotion", "pixels", "Usage"), *rows])
    found = open_labelled(data(tmp_path / "whole"), tmp_path / "cache")
    assert (labels_of(found.train).tolist(), found.val.label(0)) == ([6, 3], 6)
    assert np.asarray(decode(found.val.read(0))).shape == (48, 48, 3)
    assert int(np.asarray(decode(found.val.read(0))).max()) == 20
    fingerprint = found.fingerprint
    rows[2] = (6, grey["Training"], "PublicTest")
    write_fer(tmp_path / "whole", "fer2013.csv", [("emotion", "pixels", "Usage"), *rows])
    assert open_labelled(data(tmp_path / "whole"), tmp_path / "cache").fingerprint != fingerprint


def test_a_name_chooses_among_several_sets(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_dtd(tmp_path)
    assert vision_set(data(tmp_path, "dtd")) is VISION_SETS["dtd"]
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
    with pytest.raises(PreflightError, match="or as torchvision keeps aircraft, caltech101, cars"):
        get_task("knn").find_data({"mine": tmp_path / "empty"})
