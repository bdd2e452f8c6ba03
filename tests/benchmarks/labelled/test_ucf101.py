"""UCF101, written here in miniature as its authors lay it out."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.base.errors import PreflightError
from backbones.base.images import decode
from benchmarks.data.roots import DataRoot
from benchmarks.labelled.sets.folders import LabelledImages, labels_of, open_labelled
from benchmarks.labelled.sets.ucf101 import middle_frame
from pretrain.data.images import ImageSet

# By name the second class comes first.
CLASSES = ("Surfing", "Archery")
TRAIN = ("Surfing/v_Surfing_g08_c01", "Archery/v_Archery_g08_c01", "Surfing/v_Surfing_g09_c01")
TEST = ("Archery/v_Archery_g01_c01", "Surfing/v_Surfing_g01_c01")
SHADE = 30


def write_lists(root: Path, train: Sequence[str] = TRAIN, test: Sequence[str] = TEST) -> None:
    numbers = {name: number for number, name in enumerate(CLASSES, start=1)}
    write_list(root, "classInd", [f"{number} {name}" for name, number in numbers.items()])
    write_list(root, "testlist01", [f"{name}.avi" for name in test])
    numbered = [f"{name}.avi {numbers[name.split('/')[0]]}" for name in train]
    write_list(root, "trainlist01", numbered)


def write_list(root: Path, name: str, lines: Sequence[str]) -> None:
    path = root / "ucfTrainTestlist" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())


def place(root: Path, name: str, suffix: str) -> Path:
    path = root / "UCF-101" / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_frames(root: Path, suffix: str) -> None:
    for number, name in enumerate((*TRAIN, *TEST)):
        Image.new("RGB", (32, 24), (SHADE * number,) * 3).save(place(root, name, suffix))


def write_video(path: Path, num_frames: int) -> None:
    """Write a video whose every frame is brighter than the one before."""
    av = pytest.importorskip("av", reason="PyAV (the extra image-sets) is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        # Then the frames of the file are not in the order that they are shown in.
        stream.max_b_frames = 1
        for number in range(num_frames):
            grey = np.full((48, 64, 3), SHADE * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))


def data(root: Path) -> DataRoot:
    return DataRoot("imagenet", "ucf101", root, "--data")


def opened(root: Path) -> LabelledImages:
    return open_labelled(data(root), root / "cache")


def shades(images: ImageSet) -> list[int]:
    """Return how bright every image is, in steps of ``SHADE``."""
    found = [np.asarray(decode(images.read(index))).mean() for index in range(len(images))]
    return np.rint(np.array(found) / SHADE).astype(int).tolist()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_extracted_frames_are_divided_by_the_first_lists(tmp_path: Path, suffix: str) -> None:
    write_lists(tmp_path)
    write_frames(tmp_path, suffix)
    # Not in the lists.
    Image.new("RGB", (8, 8)).save(place(tmp_path, "Surfing/v_Surfing_g25_c01", suffix))
    place(tmp_path, TRAIN[0], ".avi").touch()
    images = opened(tmp_path)
    assert images.classes == CLASSES
    assert labels_of(images.train).tolist() == [0, 1, 0]
    assert labels_of(images.val).tolist() == [1, 0]
    assert shades(images.train) + shades(images.val) == [0, 1, 2, 3, 4]
    assert images.val.name_of(1) == str(place(tmp_path, TEST[1], suffix))


@pytest.mark.parametrize(("num_frames", "middle"), [(1, 0), (2, 1), (5, 2), (8, 4)])
def test_the_middle_frame_of_a_video_is_shown(tmp_path: Path, num_frames: int, middle: int) -> None:
    write_lists(tmp_path)
    for name in (*TRAIN, *TEST):
        write_video(place(tmp_path, name, ".avi"), num_frames)
    images = opened(tmp_path)
    assert shades(images.val) == [middle, middle]
    assert decode(images.val.read(0)).size == (64, 48)
    assert images.val.read(0) == images.val.read(0) == opened(tmp_path).val.read(1)
    assert labels_of(images.train).tolist() == [0, 1, 0]
    shown = decode(images.val.read(0))
    # What docs/imagenet.md extracts frames with.
    for name in (*TRAIN, *TEST):
        path = place(tmp_path, name, ".avi")
        middle_frame(path).to_image().save(path.with_suffix(".png"))
    assert decode(opened(tmp_path).val.read(0)).tobytes() == shown.tobytes()


def test_a_video_shown_as_a_frame_is_another_set_than_its_file(tmp_path: Path) -> None:
    write_lists(tmp_path)
    for name in (*TRAIN, *TEST):
        write_video(place(tmp_path, name, ".avi"), 3)
    fingerprint = opened(tmp_path).fingerprint
    write_video(place(tmp_path, TEST[0], ".avi"), 6)
    other = opened(tmp_path).fingerprint
    write_frames(tmp_path, ".png")
    assert len({fingerprint, other, opened(tmp_path).fingerprint}) == 3


def test_a_damaged_video_is_unreadable_alone(tmp_path: Path) -> None:
    path = tmp_path / "video.avi"
    write_video(path, 4)
    whole = path.read_bytes()
    for content, reason in (
        (b"", "not a video that can be decoded"),
        (b"no video", "not a video that can be decoded"),
        # Before the first frame.
        (whole[: whole.index(b"movi") + 4], "a video without frames"),
    ):
        path.write_bytes(content)
        with pytest.raises(OSError, match=reason):
            middle_frame(path)


def test_missing_and_odd_lists_are_one_sentence(tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(PreflightError, match=match):
            opened(tmp_path)
        write_lists(tmp_path)

    write_frames(tmp_path, ".jpg")
    refused(
        r"classInd\.txt cannot be read; classInd\.txt, trainlist01\.txt and testlist01\.txt \(U"
    )
    (tmp_path / "ucfTrainTestlist" / "testlist01.txt").unlink()
    refused(r"testlist01\.txt cannot be read; .* belong there\.$")
    write_list(tmp_path, "testlist01", [])
    refused(r"testlist01\.txt is empty; unpack the set's lists anew\.$")
    write_list(tmp_path, "classInd", ["1 Surfing", "3 Archery"])
    refused(r"classInd\.txt, line 2: expected 2 CLASS; unpack the set's lists anew\.$")
    write_list(tmp_path, "testlist01", ["", "Golf/v_Golf_g01_c01.avi"])
    refused(r"testlist01\.txt, line 2: expected CLASS/VIDEO\.avi with a class, and its number, of")
    write_list(tmp_path, "trainlist01", [f"{TRAIN[0]}.avi 2"])
    refused(r"trainlist01\.txt, line 1: expected CLASS/VIDEO\.avi with a class, and its number, of")


def test_a_list_that_names_what_is_missing_is_one_sentence(tmp_path: Path) -> None:
    write_lists(tmp_path)
    write_frames(tmp_path, ".jpg")
    place(tmp_path, TEST[1], ".jpg").unlink()
    with pytest.raises(
        PreflightError,
        match=r"testlist01\.txt names Surfing/v_Surfing_g01_c01\.avi, of which .* holds no frame, "
        "as it does of other videos; extract this one too, or remove the frames",
    ):
        opened(tmp_path)
    pytest.importorskip("av", reason="PyAV (the extra image-sets) is not installed")
    for name in (*TRAIN, *TEST):
        place(tmp_path, name, ".jpg").unlink(missing_ok=True)
    with pytest.raises(
        PreflightError,
        match=r"trainlist01\.txt names Surfing/v_Surfing_g08_c01\.avi, of which .* holds neither "
        r"the video nor a frame \(\.png, \.jpg, \.jpeg\); unpack the set there\.$",
    ):
        opened(tmp_path)


def test_without_its_library_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lists(tmp_path)
    for name in (*TRAIN, *TEST):
        place(tmp_path, name, ".avi").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        PreflightError, match=r"extracted frames needs the package av, .* install av"
    ):
        opened(tmp_path)
    # Frames need nothing.
    write_frames(tmp_path, ".jpg")
    assert len(opened(tmp_path).train) == 3
