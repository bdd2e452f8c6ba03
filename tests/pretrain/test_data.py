"""Image sets from folders, lists and tar shards."""

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from backbones.base.errors import PreflightError
from backbones.base.images import SUFFIXES, decode
from pretrain.data.find import find_images, take_fraction
from pretrain.data.images import Strings


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path, photos):
    """Return a folder of three shards with the photographs, ten a shard at most, and classes."""
    folder = tmp_path / "shards"
    folder.mkdir()
    files = sorted(photos.rglob("*.png"), key=lambda path: path.name)
    for number, start in enumerate(range(0, 20, 8)):
        with tarfile.open(folder / f"photos-{number:03d}.tar", "w") as tar:
            for path in files[start : start + 8]:
                add(tar, f"{path.stem}.png", path.read_bytes())
                add(tar, f"{path.stem}.cls", str(int(path.stem) % 2).encode())
    return folder


def contents(images):
    return {images.read(i) for i in range(len(images))}


def test_a_folder_gives_every_image_with_its_class(photos, tmp_path):
    images = find_images(photos, tmp_path)
    assert len(images) == 20
    assert images.classes == ("ants", "bees")
    assert [images.label(i) for i in range(20)] == [0] * 10 + [1] * 10
    assert decode(images.read(3)).size == (16, 12)
    assert images.name_of(0) == str(photos / "ants" / "01.png")


def test_train_is_meant_where_a_folder_has_train_and_val(photos, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(photos / "ants", tmp_path / "set" / split / "ants")
    images = find_images(tmp_path / "set", tmp_path)
    assert len(images) == 10
    assert "/train/" in images.name_of(0)


def test_images_beside_folders_have_no_classes(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "set")
    shutil.copy(photos / "ants" / "01.png", tmp_path / "set" / "loose.png")
    images = find_images(tmp_path / "set", tmp_path)
    assert len(images) == 21
    assert images.classes == ()
    with pytest.raises(IndexError):
        images.label(0)


def test_the_identity_of_images_follows_their_content(photos, tmp_path):
    root, cache = tmp_path / "set", tmp_path / "cache"
    shutil.copytree(photos, root)
    first = find_images(root, cache)
    assert find_images(root, cache).fingerprint == first.fingerprint
    path = root / "ants" / "01.png"
    content, before = bytearray(path.read_bytes()), path.stat()
    content[-1] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = find_images(root, cache)
    assert second.fingerprint != first.fingerprint
    assert second.former_fingerprint == first.former_fingerprint
    next((root / "bees").iterdir()).unlink()
    assert len(find_images(root, cache)) == 19
    shutil.copy(photos / "ants" / "01.png", root / "bees" / "new.png")
    assert len(find_images(root, cache)) == 20


def test_shards_are_identified_by_their_content(shards, tmp_path):
    first = find_images(shards, tmp_path / "cache")
    (path, *_) = sorted(shards.glob("*.tar"))
    content, before = bytearray(path.read_bytes()), path.stat()
    content[600] ^= 1  # within the first image
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert find_images(shards, tmp_path / "cache").fingerprint != first.fingerprint


def test_what_a_folder_leaves_out_is_counted_and_named(photos, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(photos, root)
    for number in range(5):
        (root / "ants" / f"gone{number}.jpg").symlink_to(tmp_path / "nowhere.jpg")
    for name in ("wasps/1.heic", "wasps/2.heic", "ants/@eaDir/01.png", "__MACOSX/x/1.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    images = find_images(root, tmp_path / "cache")
    assert len(images) == 20
    said = " ".join(images.notes)
    for part in ("5 links", "gone0.jpg", "and 2 more", "2 images of formats", "(.heic)"):
        assert part in said
    for part in ("2 folders of thumbnails", "ants/@eaDir", "1 folders without an image", "wasps"):
        assert part in said


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "pgm", "tga", "jp2", "avif"])
def test_what_pillow_reads_is_read(photos, tmp_path, suffix):
    path = tmp_path / "set" / f"1.{suffix}"
    if f".{suffix}" not in SUFFIXES:
        pytest.skip(f"this Pillow was built without {suffix}")
    path.parent.mkdir()
    kinds = {"jfif": "JPEG", "jpe": "JPEG", "pgm": "PPM", "tga": "TGA", "jp2": "JPEG2000"}
    with Image.open(photos / "ants" / "01.png") as image:
        image.convert("RGB").save(path, kinds.get(suffix))
    images = find_images(tmp_path / "set", tmp_path / "cache")
    assert decode(images.read(0)).size == (16, 12)


def test_shards_may_have_their_classes_in_json(photos, tmp_path):
    path = tmp_path / "s-0.tar"
    with tarfile.open(path, "w") as tar:
        for number, label in enumerate((3, 1)):
            tar.add(photos / "ants" / "01.png", f"{number}.png")
            text = json.dumps({"label": label}).encode()
            member = tarfile.TarInfo(f"{number}.json")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    images = find_images(path, tmp_path / "cache")
    assert [images.label(number) for number in range(2)] == [3, 1]


def test_hidden_files_and_endless_links_are_passed_over(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "set")
    (tmp_path / "set" / "ants" / "._01.png").write_bytes(b"resource fork")
    (tmp_path / "set" / "ants" / "loop").symlink_to(tmp_path / "set")
    assert len(find_images(tmp_path / "set", tmp_path / "cache")) == 20


def test_a_list_names_images_and_classes(photos, tmp_path):
    lines = [f"{path}\t{i % 3}" for i, path in enumerate(sorted(photos.rglob("*.png")))]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n\n")
    images = find_images(tmp_path / "list.txt", tmp_path)
    assert len(images) == 20
    assert images.label(5) == 2
    assert images.classes == ("0", "1", "2")
    assert contents(images) == contents(find_images(photos, tmp_path))


def test_a_list_from_notepad_begins_with_a_mark_that_is_no_part_of_a_name(photos, tmp_path):
    first = photos / "ants" / "01.png"
    (tmp_path / "list.txt").write_text(f"{first}\t0\n", "utf-8-sig")
    assert find_images(tmp_path / "list.txt", tmp_path).name_of(0) == str(first)


def test_shards_give_the_same_images_as_the_folder(photos, shards, tmp_path):
    images = find_images(shards, tmp_path)
    assert len(images) == 20
    assert contents(images) == contents(find_images(photos, tmp_path))
    assert images.name_of(8).endswith("photos-001.tar/08.png")
    assert [images.label(i) for i in range(4)] == [0, 1, 0, 1]


def test_shards_by_pattern_and_one_alone(shards, tmp_path):
    assert len(find_images(shards / "photos-{000..001}.tar", tmp_path)) == 16
    assert len(find_images(shards / "photos-002.tar", tmp_path)) == 4
    with pytest.raises(PreflightError, match=r"names 9 shards, of which 6 do not exist"):
        find_images(shards / "photos-{000..008}.tar", tmp_path)


def test_a_range_that_runs_backwards_is_told_how_to_run(shards, tmp_path):
    with pytest.raises(PreflightError, match=r"\{002\.\.000\} runs backwards; .*\{000\.\.002\}"):
        find_images(shards / "photos-{002..000}.tar", tmp_path)


def test_the_index_of_shards_is_made_once(shards, tmp_path, monkeypatch):
    find_images(shards, tmp_path)
    monkeypatch.setattr("pretrain.data.find.tarfile.open", lambda *_: pytest.fail("read again"))
    assert len(find_images(shards, tmp_path)) == 20


def test_a_torn_shard_is_named(shards, tmp_path):
    torn = shards / "photos-001.tar"
    torn.write_bytes(torn.read_bytes()[:1500])
    with pytest.raises(PreflightError, match=r"photos-001.tar cannot be read"):
        find_images(shards, tmp_path)


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("-3", r"'-3' is not the number of a class"),
        ("cat", r"'cat' is not the number of a class"),
        ("999999", None),
        ("0" * 5000 + "7", None),
        ("1000000", r"class 1000000 is beyond 999999"),
        ("99999999999", r"class 99999999999 is beyond 999999, .*; number the classes from 0"),
        ("9" * 5000, r"class 9{20} is beyond 999999"),
    ],
)
def test_classes_that_no_network_can_have_are_named(label, sentence, photos, tmp_path):
    photo = photos / "ants" / "01.png"
    (tmp_path / "list.txt").write_text(f"{photo}\t{label}\n")
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add(tar, "01.png", photo.read_bytes())
        add(tar, "01.cls", f"{label}\n".encode())
    for name, place in (("list.txt", r"list.txt, line 1: "), ("0.tar", r"0.tar/01.cls: ")):
        if sentence is None:
            assert find_images(tmp_path / name, tmp_path).label(0) == int(label.lstrip("0"))
        else:
            with pytest.raises(PreflightError, match=place + sentence):
                find_images(tmp_path / name, tmp_path)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: folder / "absent", r"there is no folder or file .*absent"),
        (lambda folder: folder, r"No images in .*: looked for .*\.jpg"),
        (lambda folder: _write(folder / "a.tar.gz", b"x"), r"compressed"),
        (lambda folder: _write(folder / "a.txt", b""), r"lists none"),
        (lambda folder: _write(folder / "a.txt", b"no.png\n"), r"lists 1 files that do not exist"),
        (
            lambda folder: _write(folder / "a.txt", b"no.png\t0\nyes.png"),
            r"a\.txt gives 1 of 2 images a class, not all; the first without is yes\.png\.",
        ),
        (lambda folder: _write(folder / "a.txt", b"no.png\tcat"), r"line 1: 'cat' is not"),
        (lambda folder: _write(folder / "a.bin", b"\xff\xfe\xfa"), r"not a text file"),
    ],
)
def test_bad_input_is_one_sentence(make, sentence, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    with pytest.raises(PreflightError, match=sentence):
        find_images(make(folder), tmp_path / "cache")


def test_shards_where_some_images_have_no_class_say_so(photos, shards, tmp_path):
    with tarfile.open(shards / "photos-002.tar", "a") as tar:
        add(tar, "20.png", (photos / "ants" / "01.png").read_bytes())
        add(tar, "21.png", (photos / "ants" / "03.png").read_bytes())
    images = take_fraction(find_images(shards, tmp_path), 0.5, None, 0)
    assert images.classes == ()
    assert images.partly_classed == (
        f"shards gives 20 of 22 images a class, not all; the first without is "
        f"{shards / 'photos-002.tar'}/20.png."
    )


def test_fingerprints_tell_sets_apart_and_not_places(photos, shards, tmp_path):
    shutil.copytree(photos, tmp_path / "copy")
    found = find_images(photos, tmp_path)
    assert find_images(tmp_path / "copy", tmp_path).fingerprint == found.fingerprint
    assert find_images(shards, tmp_path).fingerprint != found.fingerprint
    assert take_fraction(found, 0.5, None, 0).fingerprint != found.fingerprint


def test_a_fraction_is_chosen_by_the_seed(photos, tmp_path):
    images = find_images(photos, tmp_path)
    half = [take_fraction(images, 0.5, None, seed) for seed in (0, 0, 1)]
    chosen = [[part.name_of(i) for i in range(len(part))] for part in half]
    assert len(half[0]) == 10
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(take_fraction(images, 1.0, 3, 0)) == 3
    assert take_fraction(images, 1.0, 30, 0) is images


def test_strings_come_back_as_they_were():
    names = ["", "a", "ü/ß.png", "odd\udcff.png"]
    assert list(Strings(names)) == names


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
