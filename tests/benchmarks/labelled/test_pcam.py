"""PatchCamelyon, written here in miniature as its authors lay it out."""

import multiprocessing
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.base.errors import PreflightError
from backbones.base.images import decode
from benchmarks.data.roots import DataRoot
from benchmarks.labelled.sets import pcam
from benchmarks.labelled.sets.folders import LabelledImages, labels_of, open_labelled, read_facts
from benchmarks.labelled.sets.vision_sets import about_mean_class
from pretrain.data.images import ImageSet

NUM_TRAIN = 262_144


def patch(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (96, 96, 3), dtype=np.uint8)


def file_of(root: Path, part: str, letter: str) -> Path:
    return root / "pcam" / f"camelyonpatch_level_2_split_{part}_{letter}.h5"


def write(path: Path, key: str, content: np.ndarray, **storage: Any) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py (the extra image-sets) is not installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=content, **storage)


def write_labels(root: Path, part: str, labels: list[int]) -> None:
    write(file_of(root, part, "y"), "y", np.array(labels, np.uint8).reshape(-1, 1, 1, 1))


def write_set(root: Path, **storage: Any) -> None:
    for part, seeds, labels in (
        ("train", range(3), [0, 1, 1]),
        ("valid", range(3, 5), [1, 0]),
        ("test", range(5, 7), [0, 1]),
    ):
        write(file_of(root, part, "x"), "x", np.stack([patch(seed) for seed in seeds]), **storage)
        write_labels(root, part, labels)


def data(root: Path) -> DataRoot:
    return DataRoot("imagenet", "pcam", root, "--data")


def opened(root: Path) -> LabelledImages:
    return open_labelled(data(root), root / "cache")


def pixels(images: ImageSet, index: int) -> np.ndarray:
    return np.asarray(decode(images.read(index)))


def test_every_pixel_of_all_parts_is_read(tmp_path: Path) -> None:
    write_set(tmp_path)
    images = opened(tmp_path)
    assert labels_of(images.train).tolist() == [0, 1, 1, 1, 0]
    assert (labels_of(images.val).tolist(), images.classes) == ([0, 1], ("no tumor", "tumor"))
    found = [pixels(images.train, i) for i in range(5)] + [pixels(images.val, i) for i in range(2)]
    assert np.array_equal(found, [patch(seed) for seed in range(7)])
    assert images.train.name_of(4) == f"{file_of(tmp_path, 'valid', 'x')}, image 1"
    facts = read_facts(data(tmp_path), tmp_path / "cache")
    assert (facts.num_train, facts.num_test) == (5, 2)
    assert not about_mean_class(data(tmp_path))


def test_the_whole_set_fits_into_little_memory(tmp_path: Path) -> None:
    write_set(tmp_path)
    h5py = pytest.importorskip("h5py")
    with h5py.File(file_of(tmp_path, "train", "x"), "w") as file:
        # As many images as there are, 7 GB; those never written take no space.
        file.create_dataset("x", (NUM_TRAIN, 96, 96, 3), np.uint8, chunks=(1, 96, 96, 3))
        file["x"][NUM_TRAIN - 1] = patch(8)
    write_labels(tmp_path, "train", [0, 1] * (NUM_TRAIN // 2))
    tracemalloc.start()
    try:
        images = opened(tmp_path)
        last = pixels(images.train, NUM_TRAIN - 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20
    assert len(images.train) == NUM_TRAIN + 2
    assert np.array_equal(last, patch(8))
    assert np.array_equal(pixels(images.train, NUM_TRAIN), patch(3))


def test_content_decides_the_fingerprint(tmp_path: Path) -> None:
    write_set(tmp_path / "plain")
    write_set(tmp_path / "packed", chunks=(2, 96, 96, 3), compression="gzip")
    fingerprint = opened(tmp_path / "plain").fingerprint
    assert opened(tmp_path / "packed").fingerprint == fingerprint
    for name in ("labels", "pixels"):
        write_set(tmp_path / name)
    write_labels(tmp_path / "labels", "valid", [1, 1])
    write(file_of(tmp_path / "pixels", "test", "x"), "x", np.stack([patch(5), patch(9)]))
    found = {opened(tmp_path / name).fingerprint for name in ("plain", "labels", "pixels")}
    assert len(found) == 3


def read_all(images: ImageSet) -> tuple[list[bytes], int]:
    """Return the images, and how many were asked of files that this process has kept open."""
    content = [images.read(index) for index in range(len(images))]
    return content, pcam._kept_open.cache_info().hits


def test_forked_workers_open_the_files_themselves(tmp_path: Path) -> None:
    write_set(tmp_path)
    train = opened(tmp_path).train
    here, _ = read_all(train)
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as workers:
        found = workers.map(read_all, [train] * 4, chunksize=1)
        # To terminate a pool that is replacing a worker may wait for that one for ever.
        workers.close()
        workers.join()
    # The first image of each of two files finds it closed.
    assert found == [(here, len(train) - 2)] * 4


def test_an_image_whose_bytes_are_damaged_is_unreadable_alone(tmp_path: Path) -> None:
    write_set(tmp_path)
    path = file_of(tmp_path, "train", "x")
    many = np.stack([patch(seed) for seed in range(100)])
    write(path, "x", many, chunks=(1, 96, 96, 3), compression="gzip")
    write_labels(tmp_path, "train", [0] * 100)
    h5py = pytest.importorskip("h5py")
    with h5py.File(path) as file:
        place = file["x"].id.get_chunk_info(1).byte_offset
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes(64))
    train = opened(tmp_path).train
    with pytest.raises(OSError, match="read data"):
        train.read(1)
    assert np.array_equal(pixels(train, 2), patch(2))


def test_what_is_missing_or_damaged_is_one_sentence(tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(PreflightError, match=match) as caught:
            opened(tmp_path)
        assert str(caught.value).count(". ") == 0
        write_set(tmp_path)

    write_set(tmp_path)
    images, labels = (file_of(tmp_path, "valid", letter) for letter in "xy")
    labels.unlink()
    refused(r"valid_y\.h5 is missing; the six files .* unpacked from \.gz\.$")
    images.write_bytes(images.read_bytes()[:2000])
    refused(r"valid_x\.h5 cannot be read \(.*truncated file.*\); download it anew\.$")
    write(images, "images", np.stack([patch(3)]))
    refused(r"valid_x\.h5 cannot be read \(.*object 'x' doesn't exist.*\); download it anew\.$")
    write(images, "x/inside", np.stack([patch(3)]))
    refused(r"valid_x\.h5 holds something else under 'x', where PatchCamelyon has uint8 of shape")
    write(images, "x", np.zeros((2, 96, 96), np.uint8))
    refused(r"holds uint8 of shape \(2, 96, 96\) under 'x', .* \(N, 96, 96, 3\); download it anew")
    write(images, "x", np.stack([patch(3)]))
    refused(r"valid_x\.h5 holds 1 images and .*valid_y\.h5 2 labels; download both anew\.$")
    write_labels(tmp_path, "valid", [0, 2])
    refused(r"valid_y\.h5 holds the label 2, where PatchCamelyon has 0 and 1; download it anew\.$")


def test_without_its_library_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pcam").mkdir()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(PreflightError, match=r"needs the package h5py, .* pip install h5py \(or b"):
        opened(tmp_path)
