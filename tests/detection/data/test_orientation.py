"""Images whose EXIF orientation keeps their size are read as the rest of their set says."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from backbones.base.images import turn
from benchmarks.commands.predict import _as_trained, _samples
from benchmarks.work.detectors import RunData
from detection.data.dataset import CocoData, find_coco, load_split, read_split
from detection.data.facts import checked, read_facts
from detection.data.pixels import pixels_of

WIDTH, HEIGHT = 64, 48
ROTATED, MIRRORED, ON_ITS_SIDE = 3, 2, 6


def turned_set(root: Path, orientations: Mapping[str, int], displayed: tuple[str, ...] = ()) -> Any:
    """Replace images by noise with an EXIF orientation.

    The pixels are stored in the stated size, those of ``displayed`` with both sides exchanged.
    """
    for name, orientation in orientations.items():
        sides = (WIDTH, HEIGHT) if name in displayed else (HEIGHT, WIDTH)
        pixels = np.random.default_rng([*name.encode()]).integers(
            0, 256, (*sides, 3), dtype=np.uint8
        )
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        Image.fromarray(pixels).save(root / name, exif=exif)
    return find_coco(root)


def is_turned(data: CocoData, name: str) -> bool:
    """Return whether training sees an image as its EXIF orientation asks, not as it is stored."""
    split: Any = "train" if name.startswith("train") else "val"
    (image,) = [i for i in load_split(data, split) if i["file_name"].endswith(name)]
    found = np.asarray(pixels_of(image))
    with Image.open(data.root / name) as stored:
        pixels = np.asarray(stored), np.asarray(turn(stored))
    equal = [found.shape == one.shape and bool((found == one).all()) for one in pixels]
    assert sum(equal) == 1
    return equal[1]


def said(data: CocoData, cache: Path) -> list[str]:
    """Return the notes of a set on orientations; that the splits share images is noted too."""
    return [note for note in read_facts(data, cache).notes if "EXIF" in note]


def identities(data: CocoData, cache: Path) -> tuple[str, str]:
    facts = read_facts(data, cache)
    return facts.fingerprint, facts.train_fingerprint


def test_images_annotated_as_stored_decide_for_those_whose_size_does_not_tell(
    tmp_path: Path, write_coco: Callable[..., Path]
) -> None:
    names = {"train2017/1.png": ROTATED, "val2017/2.png": MIRRORED, "val2017/3.png": ON_ITS_SIDE}
    data = turned_set(write_coco(), names)
    facts = read_facts(data, tmp_path / "cache")
    assert facts.as_stored
    (note,) = said(data, tmp_path / "cache")
    assert note == (
        "2 of 3 images with an EXIF orientation have the same size as stored and as displayed "
        "(first: 1.png); they are read as stored, because the stored size of the rest is stated."
    )
    known = checked(data, tmp_path / "cache")
    assert not any(is_turned(known, name) for name in names)
    assert read_facts(data, tmp_path / "cache") == facts


def test_how_images_are_read_is_part_of_their_identity_where_it_is_not_the_usual_way(
    tmp_path: Path, write_coco: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = turned_set(write_coco(name="usual"), {"train2017/1.png": ROTATED})
    told = turned_set(write_coco(name="told"), {"train2017/1.png": ON_ITS_SIDE})
    other = turned_set(
        write_coco(name="other"), {"train2017/1.png": ROTATED, "val2017/2.png": ON_ITS_SIDE}
    )
    found = {d.root.name: identities(d, tmp_path / "cache") for d in (usual, told, other)}
    monkeypatch.setattr("detection.data.pixels.Orientations.as_stored", False)
    plain = {d.root.name: identities(d, tmp_path / "without") for d in (usual, told, other)}
    assert found["usual"] == plain["usual"]
    assert found["told"] == plain["told"]
    assert all(one != two for one, two in zip(found["other"], plain["other"], strict=True))


def test_images_annotated_as_displayed_confirm_the_usual_reading(
    tmp_path: Path, write_coco: Callable[..., Path]
) -> None:
    names = {"train2017/1.png": ROTATED, "val2017/3.png": ON_ITS_SIDE}
    data = turned_set(write_coco(), names, displayed=("val2017/3.png",))
    facts = read_facts(data, tmp_path)
    assert not facts.as_stored
    assert not said(data, tmp_path)
    assert all(is_turned(checked(data, tmp_path), name) for name in names)


@pytest.mark.parametrize("untold", [True, False])
def test_images_annotated_both_ways_are_counted(
    tmp_path: Path, write_coco: Callable[..., Path], untold: bool
) -> None:
    names = {f"val2017/{n}.png": ON_ITS_SIDE for n in (2, 3, 4)}
    rotated = {"train2017/1.png": ROTATED} if untold else {}
    data = turned_set(write_coco(), {**rotated, **names}, displayed=("val2017/3.png",))
    facts = read_facts(data, tmp_path)
    assert not facts.as_stored
    (note,) = said(data, tmp_path)
    assert "state the stored size of 2 and the displayed size of 1 of" in note
    assert note.startswith("1 of 4 images with") == untold
    assert ("read as displayed" in note and "check that their boxes fit" in note) == untold
    seen = {name: is_turned(checked(data, tmp_path), name) for name in names}
    assert list(seen.values()) == [False, True, False]
    assert all(is_turned(checked(data, tmp_path), name) for name in rotated)


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_set_whose_sizes_do_not_tell_says_so(
    tmp_path: Path, write_coco: Callable[..., Path], orientation: int
) -> None:
    names = {f"{split}2017/{n}.png": orientation for split in ("train", "val") for n in (1, 2)}
    data = turned_set(write_coco(), names)
    facts = read_facts(data, tmp_path)
    assert not facts.as_stored
    (note,) = said(data, tmp_path)
    assert note == (
        "4 of 4 images with an EXIF orientation have the same size as stored and as displayed "
        "(first: 1.png) and no other image tells which is meant, so they are read as displayed, "
        "as detectron2 does; check that their boxes fit."
    )
    assert all(is_turned(checked(data, tmp_path), name) for name in names)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_size_of_a_square_image_never_tells(
    tmp_path: Path,
    write_coco: Callable[..., Path],
    coco_content: Callable[..., dict[str, Any]],
    orientation: int,
) -> None:
    content = coco_content(4)
    content["images"][0]["height"] = WIDTH
    root = write_coco(content)
    path = root / "train2017" / "1.png"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    with Image.open(path) as image:
        image.save(path, exif=exif)
    (note,) = said(find_coco(root), tmp_path / "cache")
    assert note.startswith("1 of 1 images with an EXIF orientation have the same size")
    assert is_turned(find_coco(root), "train2017/1.png")
    # An image of the set that is annotated as stored decides for square ones too.
    data = turned_set(root, {"val2017/3.png": ON_ITS_SIDE})
    assert not is_turned(checked(data, tmp_path / "cache"), "train2017/1.png")


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_an_orientation_that_turns_nothing_is_not_mentioned(
    tmp_path: Path, write_coco: Callable[..., Path], orientation: int
) -> None:
    data = turned_set(write_coco(), {"train2017/1.png": orientation})
    assert not said(data, tmp_path)


def test_prediction_reads_the_images_of_the_set_as_training_did(
    tmp_path: Path, write_coco: Callable[..., Path]
) -> None:
    names = {"train2017/1.png": ROTATED, "val2017/2.png": MIRRORED, "val2017/3.png": ON_ITS_SIDE}
    data = turned_set(write_coco(), names)
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.write_bytes((data.root / "val2017" / "2.png").read_bytes())
    read = read_split(data, "val")
    for image in read.images:
        image["file_name"] = str(data.image_folder("val") / image["file_name"])
    paths = [*(data.root / name for name in names), elsewhere]
    own = RunData(_as_trained(data, paths, tmp_path / "cache"), read)
    samples, faults = _samples(paths, own)
    assert not faults
    found = {sample["file_name"]: np.asarray(pixels_of(sample)) for sample in samples}
    for path in paths:
        with Image.open(path) as image:
            expected = turn(image) if path == elsewhere else image
            assert (found[str(path)] == np.asarray(expected)).all()


def test_prediction_says_when_it_cannot_know_how_training_read_images(
    tmp_path: Path, write_coco: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = find_coco(write_coco())
    (data.root / "train2017" / "1.png").unlink()
    path = data.root / "val2017" / "1.png"
    assert _as_trained(data, [path], tmp_path / "cache") == data
    assert "The data of the run cannot be checked" in capsys.readouterr().err
