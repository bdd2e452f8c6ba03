"""Identity follows content, and what only the evaluation looks at is checked before training."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backbones.base.content import FileContents
from backbones.base.errors import PreflightError
from backbones.base.grey import BY_IMAGE, GreyScale
from detection.data.contents import look_at_split
from detection.data.dataset import SPLITS, CocoData, find_coco, load_split
from detection.data.facts import checked, read_facts
from detection.data.pixels import pixels_of


@pytest.fixture
def data(write_coco: Callable[..., Path]) -> CocoData:
    return find_coco(write_coco())


def overwrite(path: Path, content: bytes) -> None:
    """Write into the existing file, with the times that it had."""
    before = path.stat()
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_image_replaced_in_place_is_another(tmp_path: Path, data: CocoData) -> None:
    """Same name, same size in bytes, same times: only the change time tells."""
    first = read_facts(data, tmp_path / "cache")
    path = data.image_folder("val") / "1.png"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # within the end chunk's checksum, which nobody shows
    overwrite(path, bytes(content))
    second = read_facts(data, tmp_path / "cache")
    assert second.fingerprint != first.fingerprint
    assert second.train_fingerprint == first.train_fingerprint
    assert second.former_fingerprint == first.former_fingerprint


def test_a_copy_elsewhere_is_the_same(tmp_path: Path, data: CocoData) -> None:
    shutil.copytree(data.root, tmp_path / "copy")
    (tmp_path / "copy" / "train2017" / "1.png").touch()
    one, two = (read_facts(d, tmp_path / "c") for d in (data, find_coco(tmp_path / "copy")))
    assert one == two


def test_a_deleted_image_is_noticed(tmp_path: Path, data: CocoData) -> None:
    read_facts(data, tmp_path)
    (data.image_folder("train") / "2.png").unlink()
    with pytest.raises(PreflightError, match=r"1 of 4 images that the train .* missing.*2\.png"):
        read_facts(data, tmp_path)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_broken_image_is_refused_until_it_is_mended(
    tmp_path: Path, data: CocoData, split: Any
) -> None:
    path = data.image_folder(split) / "3.png"
    sound = path.read_bytes()
    overwrite(path, sound[: len(sound) // 2])
    for _ in range(2):
        with pytest.raises(PreflightError, match=rf"1 of 4 .*{split} .* decoded .*3\.png"):
            read_facts(data, tmp_path)
    overwrite(path, sound)
    assert read_facts(data, tmp_path).num_val == 4


def test_an_image_of_another_size_is_refused(tmp_path: Path, data: CocoData) -> None:
    Image.new("RGB", (20, 30)).save(data.image_folder("val") / "2.png")
    with pytest.raises(PreflightError, match=r"2\.png has 20 x 30 pixels, .* say 64 x 48"):
        read_facts(data, tmp_path)


def exchange_sides(content: dict[str, Any], every: int = 1) -> dict[str, Any]:
    for image in content["images"][::every]:
        image.update(width=image["height"], height=image["width"])
    return content


@pytest.mark.parametrize("wide", [False, True])
def test_exchanged_sides_of_images_are_told_by_the_files(
    tmp_path: Path,
    write_coco: Callable[..., Path],
    coco_content: Callable[..., dict[str, Any]],
    wide: bool,
) -> None:
    """Also where boxes would leave the images, which other mistakes cause as well."""
    content = coco_content(20)
    if wide:
        for annotation in content["annotations"]:
            annotation.pop("segmentation")
            annotation["bbox"][2] = 40.0
    root = write_coco(content)
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(exchange_sides(content)))
    with pytest.raises(
        PreflightError,
        match=r"20 of 20 images that the train .* width and height of the images are exchanged in "
        r"the annotations.*1\.png has 64 x 48 pixels",
    ):
        read_facts(find_coco(root), tmp_path / "cache")


def test_few_exchanged_sides_are_told_too(
    tmp_path: Path,
    write_coco: Callable[..., Path],
    coco_content: Callable[..., dict[str, Any]],
) -> None:
    content = coco_content(20)
    root = write_coco(content)
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(exchange_sides(content, 10)))
    with pytest.raises(PreflightError, match=r"2 of 20 images .* are exchanged in"):
        read_facts(find_coco(root), tmp_path / "cache")


def test_an_image_may_lie_on_its_side(tmp_path: Path, data: CocoData) -> None:
    """With an orientation in its metadata, annotated upright or as it is stored."""
    for name, size in (("1.png", (48, 64)), ("2.png", (64, 48))):
        image = Image.new("RGB", size)
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(data.image_folder("val") / name, exif=exif)
    assert read_facts(data, tmp_path).num_val == 4


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def inspect(content: bytes) -> str:
        seen.append(content)
        return content.decode()

    for name in "abc":
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1, 1))
    contents = FileContents(tmp_path / "record.json", inspect)

    def settled() -> bool:
        """Look until the files are older than a tick of the clock."""
        seen.clear()
        contents.look(tmp_path, "abc")
        return not seen

    for _ in range(200):
        if settled():
            break
    assert not seen
    (tmp_path / "b").write_text("new")
    looks = contents.look(tmp_path, "abcd")
    assert seen == [b"new"]
    assert [look.seen for look in looks] == ["a", "new", "c", ""]
    assert looks[3].size == -1


def test_large_sets_are_identified_by_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(bytes(200_000))
    names = ["a"]
    whole = FileContents(tmp_path / "one.json").look(tmp_path, names)[0].digest
    monkeypatch.setattr("backbones.base.content.WHOLE_BYTES", 100_000)

    def digest() -> str:
        return FileContents(tmp_path / "two.json").look(tmp_path, names)[0].digest

    first = digest()
    assert first != whole
    assert digest() == first
    for at in (0, 100_000, 199_999):
        content = bytearray(200_000)
        content[at] = 1
        (tmp_path / "a").write_bytes(content)
        assert digest() != first
    (tmp_path / "a").write_bytes(bytes(200_001))
    assert digest() != first


def test_names_that_are_no_text_are_kept_apart(tmp_path: Path) -> None:
    names = [os.fsdecode(b"\xff.png"), os.fsdecode(b"\xfe.png"), "ü.png"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes([number]))
    contents = FileContents(tmp_path / "record.json")
    first = contents.look(tmp_path, names)
    assert len({look.digest for look in first}) == 3
    again = contents.look(tmp_path, names)
    assert [look.digest for look in again] == [look.digest for look in first]


def test_images_in_both_splits_are_told(tmp_path: Path, data: CocoData) -> None:
    # The fixture makes the same images for both.
    (note,) = read_facts(data, tmp_path).notes
    assert "4 of 4 validation images are training images too" in note


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_annotations_with_a_byte_order_mark_are_read(
    tmp_path: Path, data: CocoData, encoding: str
) -> None:
    expected = read_facts(data, tmp_path / "plain")
    for split in ("train", "val"):
        path = data.annotation_file(split)
        path.write_text(path.read_text("utf-8"), encoding=encoding)
    found = read_facts(data, tmp_path / "marked")
    assert (found.num_train, found.num_val) == (expected.num_train, expected.num_val)
    assert found.class_names == expected.class_names


@pytest.mark.parametrize(("form", "said"), [([[]], "[[]]"), (None, "null")])
def test_a_set_whose_masks_are_empty_says_that_it_is_boxes_only(
    tmp_path: Path, write_coco: Callable[..., Path], coco_content: Callable[..., Any],
    form: Any, said: str,
) -> None:  # fmt: skip
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["segmentation"] = form
    facts = read_facts(find_coco(write_coco(content, content)), tmp_path)
    assert not facts.has_masks
    (note,) = [note for note in facts.notes if "No object has a mask" in note]
    assert f"instances_train2017.json: {said} in 8; instances_val2017.json: {said} in 8" in note


def grey_set(root: Path, largest: dict[str, int]) -> CocoData:
    """Replace images by 16-bit ones of noise up to a largest value."""
    for name, top in largest.items():
        values = np.random.default_rng(len(name) + top).integers(0, top + 1, (48, 64))
        values[0, 0] = top
        Image.fromarray(values.astype(np.uint16)).save(root / name)
    return find_coco(root)


def test_a_grey_set_of_one_depth_keeps_its_identity(
    tmp_path: Path, write_coco: Callable[..., Path]
) -> None:
    names = [f"{split}2017/{n}.png" for split in ("train", "val") for n in (1, 2, 3, 4)]
    tops = {name: 3000 + 10 * n for n, name in enumerate(names)}
    data = grey_set(write_coco(name="one"), tops)
    facts = read_facts(data, tmp_path / "cache")
    looks = [
        look_at_split(data.annotation_file(s), data.image_folder(s), tmp_path / "other", s)
        for s in SPLITS
    ]
    text = " ".join(look.fingerprint for look in looks if look is not None)
    assert facts.fingerprint == hashlib.sha256(f"content-2 {text}".encode()).hexdigest()
    assert (facts.grey, facts.notes) == (BY_IMAGE, ())
    assert all("grey" not in image for image in load_split(checked(data, tmp_path), "train"))


def test_a_grey_set_of_several_depths_has_one_scale(
    tmp_path: Path, write_coco: Callable[..., Path]
) -> None:
    names = [f"{split}2017/{n}.png" for split in ("train", "val") for n in (1, 2, 3, 4)]
    tops = {name: 3000 + 10 * n for n, name in enumerate(names)}
    dark = names[2]
    data = grey_set(write_coco(name="one"), {**tops, dark: 120})
    facts = read_facts(data, tmp_path / "cache")
    assert facts.grey == GreyScale(bits=12)
    assert facts.train_fingerprint != ""
    (note,) = facts.notes
    assert "1 of 8 grey images of 16 or 32 bits use fewer bits than the rest" in note
    images = {Path(i["file_name"]).name: pixels_of(i) for i in load_split(
        checked(data, tmp_path / "cache"), "train")}  # fmt: skip
    assert np.asarray(images[Path(dark).name]).max() == 120 >> 4
    assert np.asarray(images["1.png"]).max() == 3000 >> 4
    # Facts come back from the cache as they were.
    assert read_facts(data, tmp_path / "cache") == facts
