"""The embedded mini data: valid, the same everywhere, learnable by shape and texture only."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from backbones.base.errors import PreflightError
from benchmarks.data.mini import MINI_SHA256, MINI_VERSION, MiniData, cache, mini_data
from benchmarks.data.mini.classes import CLASSES
from benchmarks.data.mini.coco import (
    NUM_IMAGES,
    NUM_TRAINABLE,
    instances,
    make_image,
    polygons,
    run_lengths,
    tight_box,
)
from benchmarks.data.mini.generate import checksum, generate, write_part
from benchmarks.data.mini.imagenet import NUM_PER_CLASS, crop_path, make_crop, num_crops
from benchmarks.data.mini.photos import PHOTOS, Frame, Photo, cut, grey_half, photo_half
from benchmarks.data.mini.png import png_bytes
from benchmarks.data.mini.shapes import fill
from benchmarks.data.mini.stream import Stream

ROOT = Path(__file__).resolve().parents[3]

# Of images 0 to 3 and pictures 0 to 9 of each split: tells in a second whether anything drew
# differently. A deliberate change needs a new MINI_VERSION, MINI_SHA256 and this.
FIRST_FILES_SHA256 = "494ab589084ca905469d92f9b2d173107378075270442d83327a7431701d9f55"


def as_coco(split, records):
    data = COCO()
    data.dataset = instances(split, records)
    data.createIndex()
    return data


@pytest.fixture(scope="module")
def some_images():
    """Forty validation images: one of them without objects, two or three with a crowd."""
    return [make_image("val", index) for index in range(40)]


def test_first_files_are_the_pinned_ones():
    digest = hashlib.sha256()
    for split in ("train", "val"):
        for index in range(4):
            content, record = make_image(split, index)
            digest.update(content + json.dumps(record, sort_keys=True).encode())
        for index in range(10):
            digest.update(make_crop(split, index))
    assert digest.hexdigest() == FIRST_FILES_SHA256


def test_annotations_are_what_pycocotools_reads(some_images):
    data = as_coco("val", [record for _, record in some_images])
    assert len(data.anns) > 80
    for annotation in data.dataset["annotations"]:
        mask = data.annToMask(annotation).astype(bool)
        assert mask.sum() == annotation["area"]
        assert tight_box(mask) == annotation["bbox"]


def test_images_have_the_size_that_annotations_say(some_images):
    modes = Counter()
    for content, record in some_images:
        with Image.open(BytesIO(content)) as image:
            assert image.size == (record["image"]["width"], record["image"]["height"])
            modes[image.mode] += 1
    assert len({(r["image"]["width"], r["image"]["height"]) for _, r in some_images}) > 10
    assert modes["RGB"] == len(some_images)
    with Image.open(BytesIO(make_image("val", 48)[0])) as grey:
        assert grey.mode == "L"


def test_masks_come_in_every_encoding_and_do_not_overlap(some_images):
    kinds = Counter()
    data = as_coco("val", [record for _, record in some_images])
    for image_id in data.imgs:
        annotations = data.imgToAnns[image_id]
        kinds["empty image"] += not annotations
        for annotation in annotations:
            encoded = "runs" if isinstance(annotation["segmentation"], dict) else "polygons"
            kinds["crowd" if annotation["iscrowd"] else encoded] += 1
        if annotations:
            assert sum(data.annToMask(annotation) for annotation in annotations).max() == 1
    assert all(kinds[kind] for kind in ("runs", "polygons", "crowd", "empty image")), kinds


def test_ids_licences_and_credits_are_complete(some_images):
    content = instances("val", [record for _, record in some_images])
    licences = {entry["id"]: entry["name"] for entry in content["licenses"]}
    for image in content["images"]:
        used = {PHOTOS[name].licence for name in image["photos"]}
        assert licences[image["license"]] in used
        assert licences[image["license"]] == "CC BY 2.0" or "CC BY 2.0" not in used
    assert all(photo.credit in content["info"]["contributor"] for photo in PHOTOS.values())
    ids = [entry["id"] for entry in content["annotations"]]
    assert len(set(ids)) == len(ids)
    assert [entry["id"] for entry in content["categories"]] == list(range(1, 11))


def test_neither_shape_nor_texture_alone_tells_the_class():
    assert len(set(CLASSES)) == 10
    for values in ([kind.shape for kind in CLASSES], [kind.texture for kind in CLASSES]):
        assert set(Counter(values).values()) == {2}


def test_splits_see_different_halves_of_the_photographs():
    for name, photo in PHOTOS.items():
        left, right = photo_half(name, "train")[0], photo_half(name, "val")[0]
        assert left.shape[0] == right.shape[0], photo.file
        assert abs(left.shape[1] - right.shape[1]) <= 1
        shared = min(left.shape[1], right.shape[1])
        assert (left[:, :shared] != right[:, :shared]).any()


def test_polygons_and_runs_give_back_any_mask():
    noise = (
        np.random.default_rng(0).random((60, 17, 23)) < np.linspace(0.02, 0.98, 60)[:, None, None]
    )
    as_outlines = 0
    for mask in [*noise, np.eye(9, dtype=bool), np.ones((1, 1), bool)]:
        height, width = mask.shape
        data = COCO()
        data.imgs = {1: {"height": height, "width": width}}
        for segmentation in (run_lengths(mask), polygons(mask)):
            if segmentation:
                read = data.annToMask({"image_id": 1, "segmentation": segmentation})
                assert (read == mask).all()
                as_outlines += isinstance(segmentation, list)
    assert as_outlines > 5
    holed = np.ones((5, 5), bool)
    holed[2, 2] = False
    assert polygons(holed) is None


def test_fill_matches_areas_and_cuts_holes():
    square = np.array([(0, 0), (10, 0), (10, 6), (0, 6)], float)
    cover = fill([square - 3.5, square * 0.5 - 2.0])
    assert cover.samples.sum() == 16 * (60 - 15)
    assert fill([square[::-1] - 3.5]).samples.sum() == 16 * 60
    moved = cover.moved(0, 0, 4, 4)
    assert moved.samples.shape == (3, 4)
    assert cover.moved(-50, 0, 20, 20).samples.size == 0


def test_cut_of_a_plain_frame_is_the_photograph_itself():
    levels = grey_half("grass", "train")
    height, width, _ = levels[0].shape
    piece = cut(levels, Frame(0.5, 0.5, 1.0, 0.0), height, width)
    assert (piece == levels[0]).all()
    wide = cut(levels, Frame(0.5, 0.5, 1.0, 0.0), height, 2 * width)
    assert (wide[:, width // 2 - 1 :: -1] == wide[:, width // 2 : width]).all()


def test_png_reads_back_and_keeps_its_bytes():
    stream = Stream(7)
    for shape in ((3, 5, 3), (200, 251, 3), (200, 251)):
        pixels = stream.noise(shape, 0, 255).astype(np.uint8)
        with Image.open(BytesIO(png_bytes(pixels))) as image:
            assert (np.asarray(image) == pixels).all()


def test_stream_does_not_depend_on_numpy_methods():
    stream = Stream(1, 2)
    assert [stream.integer(0, 99) for _ in range(4)] == [82, 71, 73, 99]
    assert 0.2 < np.mean([stream.chance(0.3) for _ in range(1000)]) < 0.4
    noise = stream.noise((100, 100), -4, 4)
    assert set(np.unique(noise)) == set(range(-4, 5))


def test_a_wrong_or_missing_photograph_is_one_sentence(monkeypatch):
    for photo, words in (
        (Photo("brick.png", "", "", sha256="0"), "is not the one"),
        (Photo("absent.png", "", "", sha256="0"), "cannot be read"),
        (
            Photo("a.png", "", "", "0", ("no_such_module", "data", "no-such-package")),
            "not installed",
        ),
    ):
        monkeypatch.setitem(PHOTOS, "test", photo)
        with pytest.raises(PreflightError, match=words):
            photo_half("test", "train")


class TestCache:
    """The folder around the data, with a stand-in of three files for the data itself."""

    @pytest.fixture(autouse=True)
    def tiny(self, monkeypatch):
        self.calls = 0
        content = {"coco/a.png": b"pixels", "coco/annotations/x.json": b"{}"}
        files = {
            path: (len(value), hashlib.sha256(value).hexdigest()) for path, value in content.items()
        }

        def fake(folder):
            self.calls += 1
            for path, value in content.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(value)
            return files

        monkeypatch.setattr(cache, "generate", fake)
        monkeypatch.setattr(cache, "MINI_SHA256", checksum(files))

    def test_made_once(self, tmp_path):
        first = mini_data(tmp_path)
        assert mini_data(tmp_path) == first == MiniData(first.coco, first.coco.parent / "imagenet")
        assert self.calls == 1
        assert (first.coco / "a.png").read_bytes() == b"pixels"
        assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [f"mini-{MINI_VERSION}"]

    @pytest.mark.parametrize("damage", ["coco/a.png", "coco/annotations/x.json", "manifest.json"])
    @pytest.mark.parametrize("how", ["removed", "cut", "changed"])
    def test_damage_is_mended(self, tmp_path, damage, how):
        root = mini_data(tmp_path).coco.parent
        path = root / damage
        if how == "removed":
            path.unlink()
        elif how == "cut":
            path.write_bytes(path.read_bytes()[:-2])
        elif damage.endswith(".json"):
            path.write_bytes(path.read_bytes().replace(b"{", b"[", 1))
        mini_data(tmp_path)
        assert self.calls == (1 if (how, damage) == ("changed", "coco/a.png") else 2)
        assert (root / "coco/a.png").read_bytes() == b"pixels"

    def test_leftovers_of_a_killed_process_are_cleared(self, tmp_path):
        left_behind = tmp_path / f".mini-{MINI_VERSION}.killed"
        left_behind.mkdir()
        mini_data(tmp_path)
        assert not left_behind.exists()

    def test_another_checksum_is_refused_and_leaves_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setattr(cache, "MINI_SHA256", "0" * 64)
        with pytest.raises(PreflightError, match="checksum"):
            mini_data(tmp_path)
        assert not [path for path in tmp_path.iterdir() if path.is_dir()]

    def test_a_file_where_the_cache_should_be(self, tmp_path):
        (tmp_path / "cache").write_text("")
        with pytest.raises(PreflightError, match="cannot be written to"):
            mini_data(tmp_path / "cache")

    def test_default_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("BACKBENCH_CACHE", str(tmp_path))
        assert mini_data().coco == tmp_path / f"mini-{MINI_VERSION}" / "coco"
        monkeypatch.delenv("BACKBENCH_CACHE")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache.default_cache() == tmp_path / "home" / ".cache" / "backbench"


def test_a_failing_helper_process_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.data.mini.generate.write_part", lambda *_: None)
    monkeypatch.setattr("benchmarks.data.mini.generate.SPLITS", ())
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(PreflightError, match=r"exit code 1: .*Error"):
        generate(occupied)


def test_importing_needs_neither_torch_nor_the_photographs():
    code = (
        "import sys, benchmarks.data.mini;"
        "sys.exit(bool({'torch', 'skimage', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The whole data set, made by two processes as for users."""
    return mini_data(tmp_path_factory.mktemp("cache"))


@pytest.mark.slow
def test_one_process_makes_the_same(tmp_path):
    assert checksum(generate(tmp_path, num_processes=1)) == MINI_SHA256


@pytest.mark.slow
def test_three_shares_are_disjoint_and_complete(whole, tmp_path):
    write_part(tmp_path, 2, 3)
    for path in tmp_path.rglob("*.png"):
        again = whole.coco.parent / path.relative_to(tmp_path)
        assert path.read_bytes() == again.read_bytes()


@pytest.mark.slow
def test_processes_that_start_together_generate_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from benchmarks.data.mini import cache\n"
        "real = cache.generate\n"
        "def told(folder):\n    print('generating'); return real(folder)\n"
        "cache.generate = told; cache.mini_data(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate()[0] for process in started]
    assert sorted(said) == ["", "generating\n"]
    assert [process.returncode for process in started] == [0, 0]


@pytest.mark.slow
def test_whole_set_has_every_size_class_and_layout(whole):
    for split, num_images in NUM_IMAGES.items():
        data = COCO()
        data.dataset = json.loads(
            (whole.coco / f"annotations/instances_{split}2017.json").read_text()
        )
        data.createIndex()
        files = {path.name for path in (whole.coco / f"{split}2017").iterdir()}
        assert files == {image["file_name"] for image in data.dataset["images"]}
        assert len(files) == num_images
        single = [entry for entry in data.dataset["annotations"] if not entry["iscrowd"]]
        assert 3 <= len(data.dataset["annotations"]) - len(single) <= 60
        if split == "train":
            assert len({entry["image_id"] for entry in single}) == NUM_TRAINABLE
        sizes = Counter("sml"[(a["area"] >= 1024) + (a["area"] >= 9216)] for a in single)
        assert min(sizes.values()) >= 15, sizes
        per_class = Counter(entry["category_id"] for entry in single)
        assert len(per_class) == 10
        assert min(per_class.values()) > 0.6 * len(single) / 10
        for folder in (whole.imagenet / split).iterdir():
            assert len(list(folder.iterdir())) == NUM_PER_CLASS[split]
        assert len(list((whole.imagenet / split).iterdir())) == 10


@pytest.mark.slow
def test_color_does_not_tell_the_class():
    """Nearest neighbours of colour histograms: 10 % is chance, 50 % a texture known for certain."""

    def histograms(split):
        pictures = range(0, num_crops(split), 1 if split == "val" else 2)
        found = []
        for index in pictures:
            with Image.open(BytesIO(make_crop(split, index))) as image:
                pixels = np.asarray(image).reshape(-1, 3) // 43
            counts = np.bincount(pixels @ np.array([36, 6, 1]), minlength=216)
            found.append(np.sqrt(counts / counts.sum()))
        return np.array(found), np.array(pictures) % 10

    (train, train_classes), (val, val_classes) = histograms("train"), histograms("val")
    nearest = np.argsort(-(val @ train.T), axis=1)[:, :10]
    votes = np.apply_along_axis(np.bincount, 1, train_classes[nearest], minlength=10)
    assert (votes.argmax(axis=1) == val_classes).mean() < 0.3


def test_crop_paths_are_imagenets():
    assert crop_path("train", 12) == "train/grass_cross/00001.png"
    paths = {crop_path("val", index) for index in range(num_crops("val"))}
    assert len(paths) == num_crops("val")
