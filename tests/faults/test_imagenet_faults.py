"""What goes wrong with labelled images and their features, and the sentence that says so."""

import json
import shutil
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO

import filelock
import numpy as np
import pytest
import torch
from PIL import Image

from backbones.base.errors import PreflightError, StoppedError, UserError
from backbones.base.monitor import SilentMonitor
from backbones.catalog import get_spec
from backbones.weights.source import open_checkpoint
from benchmarks.data.roots import DataRoot, find_labelled_root, parse_data
from benchmarks.labelled.config import CentralViewConfig
from benchmarks.labelled.features import extract, table, views
from benchmarks.labelled.sets.folders import find_labelled, labels_of
from benchmarks.suites import get_task
from benchmarks.task import TaskInputs
from benchmarks.tasks.knn.recipes import knn_mini
from benchmarks.tasks.linear.recipes import AugmentConfig, linear_mini
from benchmarks.tasks.lowshot.recipes import lowshot_mini

CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox")


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    content = BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def fill(root, split, classes=CLASSES, count=4):
    for place, name in enumerate(classes):
        folder = root / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            seed = [place, number, split == "val"]
            (folder / f"{name}_{number}.png").write_bytes(picture(seed))


@pytest.fixture
def images(tmp_path):
    """Return a folder of 24 training and 12 test images in six classes."""
    root = tmp_path / "images"
    fill(root, "train")
    fill(root, "val", count=2)
    return root


class Ears(SilentMonitor):
    """Hears what is said, and wants to stop after so many batches."""

    def __init__(self, stop_after=10**9):
        self.said = []
        self.calls = stop_after

    def say(self, text):
        self.said.append(text)

    def should_stop(self):
        self.calls -= 1
        return self.calls < 0


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a task on a folder with a nano ViT of 16 pixels."""

    def call(root, config=None, monitor=None, task="knn"):
        config = config or knn_mini()
        vote = {"vote": replace(config.vote, k=5, ks=(3, 5, 50))} if task == "knn" else {}
        data = CentralViewConfig(img_size=16, resize_to=18, max_corrupt=config.data.max_corrupt)
        extraction = replace(config.extraction, batch_size=4)
        inputs = TaskInputs(
            backbone=get_spec("vit-nano"),
            checkpoint=open_checkpoint("vit-nano", None),
            config=replace(config, data=data, extraction=extraction, **vote),
            data=DataRoot("imagenet", "mine", root, "--data mine"),
            out_dir=tmp_path / "work" / task,
            cache=tmp_path / "cache",
            seed=0,
        )
        return get_task(task).run(inputs, monitor or Ears())

    return call


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(table, "ROWS", 8)
    monkeypatch.setattr(extract, "ROWS", 8)


def test_a_folder_without_splits_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(PreflightError, match=r"has no folder val; labelled images lie in"):
        find_labelled(tmp_path, tmp_path / "cache")


def test_images_without_classes_are_refused(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.png").write_bytes(picture(0))
    with pytest.raises(PreflightError, match=r"train have no classes; put each into a folder"):
        find_labelled(tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("split", ["train", "val"])
def test_shards_that_lack_a_class_are_named(images, tmp_path, split):
    with tarfile.open(images / split / "0.tar", "w") as tar:
        for name, content in (("a.png", picture(0)), ("a.cls", b"0"), ("b.png", picture(1))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
    with pytest.raises(
        PreflightError, match=rf"{split} gives 1 of 2 .* without is .*0\.tar/b\.png"
    ):
        find_labelled(images, tmp_path / "cache")


@pytest.mark.parametrize(("split", "other"), [("train", "val"), ("val", "train")])
def test_classes_that_differ_are_named(images, tmp_path, split, other):
    fill(images, split, ("gnu",))
    with pytest.raises(PreflightError, match=rf"differ: {other} lacks 1 of them \(gnu\)"):
        find_labelled(images, tmp_path / "cache")


def flatten(images):
    for path in sorted((images / "val").glob("*/*")):
        path.rename(images / "val" / path.name)
        if not list(path.parent.iterdir()):
            path.parent.rmdir()


@pytest.mark.parametrize("named", [True, False])
def test_the_official_flat_split_takes_its_classes_from_a_list(images, tmp_path, named):
    expected = find_labelled(images, tmp_path / "cache").val
    labels = {
        expected.name_of(i).rpartition("/")[2]: expected.label(i) for i in range(len(expected))
    }
    flatten(images)
    with pytest.raises(PreflightError, match=r"or a list val.txt with lines NAME CLASS"):
        find_labelled(images, tmp_path / "cache")
    lines = [f"{name} {CLASSES[label] if named else label}" for name, label in labels.items()]
    (images / "val.txt").write_text("\n".join(lines))
    val = find_labelled(images, tmp_path / "cache").val
    assert {val.name_of(i).rpartition("/")[2]: val.label(i) for i in range(len(val))} == labels
    (images / "val.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(PreflightError, match="gives no class to 1 of 12 images"):
        find_labelled(images, tmp_path / "cache")
    (images / "val.txt").write_text("ant_0.png 6")
    with pytest.raises(PreflightError, match="line 1: '6' is neither a class of train nor"):
        find_labelled(images, tmp_path / "cache")


def test_shards_are_read_like_folders(images, tmp_path):
    sharded = tmp_path / "sharded"
    for split in ("train", "val"):
        (sharded / split).mkdir(parents=True)
        with tarfile.open(sharded / split / "0.tar", "w") as tar:
            for path in sorted((images / split).glob("*/*")):
                label = str(CLASSES.index(path.parent.name)).encode()
                for name, content in ((path.name, path.read_bytes()), (f"{path.stem}.cls", label)):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, BytesIO(content))
    one, other = (find_labelled(root, tmp_path / "cache") for root in (images, sharded))
    assert labels_of(one.train).tolist() == labels_of(other.train).tolist()
    assert other.val.read(3) == one.val.read(3)


def test_corrupt_images_are_counted_and_named_up_to_a_limit(images, run):
    bad = images / "train" / "bee" / "bee_1.png"
    bad.write_bytes(b"no image")
    result = run(images)
    assert result.details["num_train"] == 23
    (text,) = [text for text in result.warnings if "unreadable" in text]
    assert text.startswith(f"left out 1 unreadable training images: {bad} (")
    config = replace(knn_mini(), data=replace(knn_mini().data, max_corrupt=0))
    with pytest.raises(PreflightError, match=r"more than data.max_corrupt = 0 allows"):
        run(images, config)


def test_fewer_images_than_neighbours(images, run, tmp_path):
    result = run(images)
    assert any("k = 50 left out: 24 training images" in text for text in result.warnings)
    small = tmp_path / "small"
    fill(small, "train", CLASSES[:2], count=2)
    fill(small, "val", CLASSES[:2], count=1)
    with pytest.raises(PreflightError, match="5 neighbours cannot be had from 4 training images"):
        run(small)


def test_fewer_classes_than_a_top_5_needs(tmp_path, run):
    root = tmp_path / "four"
    fill(root, "train", CLASSES[:4])
    fill(root, "val", CLASSES[:4], count=1)
    result = run(root)
    assert result.metrics["knn_top5"] is None
    assert result.metrics["knn_top1"] is not None
    assert "top-5 needs five classes, and these data have 4" in result.warnings


def test_features_that_a_backbone_does_not_have(images, run):
    config = linear_mini()
    config = replace(config, grid=replace(config.grid, features=("stages",)))
    with pytest.raises(UserError, match=r"vit-nano has no features 'stages'; --set grid.features"):
        run(images, config, task="linear")


def test_features_are_extracted_once_for_all_tasks(images, run):
    ears = Ears()
    first = run(images, monitor=ears)
    assert first.details["images_extracted"] == 36
    assert any("on the CPU, there is no CUDA device" in t for t in ears.said) or (
        torch.cuda.is_available()
    )
    for task, config in (("knn", None), ("linear", linear_mini())):
        again = run(images, config, task=task)
        assert again.details["images_extracted"] == 0
    assert run(images).metrics == first.metrics


def test_a_damaged_block_is_found_and_extracted_again(images, run, small_blocks, tmp_path):
    first = run(images)
    blocks = sorted((tmp_path / "cache" / "features").glob("*/block-*.npy"))
    assert len(blocks) == 3 + 2
    whole = blocks[1].read_bytes()
    blocks[1].write_bytes(whole[:-4] + bytes(4))
    ears = Ears()
    again = run(images, monitor=ears)
    (said,) = [text for text in ears.said if "damaged" in text]
    assert said.startswith("1 of ")
    assert again.details["images_extracted"] in (8, 4)
    assert blocks[1].read_bytes() == whole
    assert again.metrics == first.metrics


def test_an_extraction_that_stopped_goes_on_in_the_middle(images, run, small_blocks, tmp_path):
    with pytest.raises(StoppedError):
        run(images, monitor=Ears(stop_after=5))
    done = len(list((tmp_path / "cache" / "features").glob("*/block-*.json")))
    assert done == 2, "two batches a block, and the third block was begun"
    rest = run(images)
    assert rest.details["images_extracted"] == 36 - 16


def test_another_process_s_block_is_waited_for_and_not_made_twice(
    images, run, small_blocks, tmp_path
):
    first = run(images)
    made = sorted((tmp_path / "cache" / "features").glob("*/block-*.json"))[0]
    away = tmp_path / "away.json"
    made.rename(away)
    told = threading.Event()

    class Waiting(Ears):
        def should_stop(self):
            told.set()  # nothing is left to do but what the other one is about
            return super().should_stop()

    with ThreadPoolExecutor(1) as other, filelock.FileLock(made.with_suffix(".lock")):
        result = other.submit(run, images, monitor=Waiting())
        assert told.wait(timeout=60)
        away.rename(made)
    assert result.result().details["images_extracted"] == 0
    assert result.result().metrics == first.metrics


def test_slow_reading_is_said_and_fast_reading_is_not(images, run, monkeypatch, tmp_path):
    decode = views.decode

    def slowly(content):
        time.sleep(0.02)
        return decode(content)

    monkeypatch.setattr(views, "decode", slowly)
    ears = Ears()
    share = run(images, monitor=ears).details["loading_share"]
    assert share > 0.25
    (train, val) = [text for text in ears.said if "are the bottleneck, not the backbone" in text]
    assert train.startswith("features of train: ")
    assert val.startswith("features of val: ")
    monkeypatch.setattr(extract, "_SLOW_LOADING", 1.0)
    ears = Ears()
    shutil.rmtree(tmp_path / "cache")
    run(images, monitor=ears)
    assert not any("bottleneck" in text for text in ears.said)
    assert run(images).details["loading_share"] is None, "nothing was extracted"


def test_a_record_says_what_decided_it(images, run):
    found = run(images)
    assert found.details["headline"] == "pooled/k5"
    kinds = found.details["features"]
    assert set(found.details["variants"]) == {f"{kind}/k{k}" for kind in kinds for k in (3, 5)}
    assert found.details["variants"]["pooled/k5"]["top1"] == found.metrics["knn_top1"]
    linear = run(images, linear_mini(), task="linear")
    chosen, shares = linear.details["chosen"], linear.details["holdout_top1"]
    norm = "+bn" if chosen["norm"] == "batch" else ""
    name = f"{chosen['features']}{norm}/lr{chosen['base_lr']:g}"
    assert shares[name] == max(shares.values())
    assert len(shares) == linear.details["num_heads"]
    assert min(shares.values()) <= linear.details["holdout_median"] <= max(shares.values())
    for curve in ("loss", "holdout_best", "holdout_median"):
        assert len(linear.curves[curve]) == linear_mini().schedule.epochs
    lowshot = run(images, lowshot_mini(), task="lowshot").details["chosen"]
    assert all(one["num_labels"] for one in lowshot.values())


def test_random_views_are_extracted_as_the_training_needs_them(images, run, tmp_path):
    config = linear_mini()
    config = replace(
        config,
        augment=AugmentConfig(views=3),
        schedule=replace(config.schedule, epochs=3, batch_size=8),
    )
    whole = run(images, config, task="linear")
    # 24 images, of which one a class is held out, in three views, beside both central ones.
    assert whole.details["images_extracted"] == 36 + 3 * 18
    folders = len(list((tmp_path / "cache" / "features").iterdir()))
    assert folders == 3, "views that nobody needs any more are gone"
    assert whole.details["num_heldout"] == 6


def test_reassessed_labels_are_used_where_they_lie_beside_the_images(images, run):
    names = sorted((images / "val").glob("*/*"))
    for number, path in enumerate(names, start=1):
        path.rename(path.with_name(f"ILSVRC2012_val_{number:08d}.png"))
    (images / "real.json").write_text(json.dumps([[0, 1, 2, 3, 4, 5]] * 6 + [[]] * 3 + [[6]] * 3))
    result = run(images)
    assert result.metrics["knn_real"] == pytest.approx(100 * 6 / 9)
    (images / "real.json").write_text("[[1], 2]")
    with pytest.raises(PreflightError, match=r"real.json is no list of lists of class numbers"):
        run(images)
    (images / "real.json").write_text("[[1], [2]]")
    with pytest.raises(PreflightError, match=r"is for ILSVRC2012_val_00000001 to 00000002, and"):
        run(images)
    (images / "real.json").unlink()
    assert run(images).metrics["knn_real"] is None


def test_few_labels_come_from_official_lists(images, run):
    config = lowshot_mini()
    drawn = run(images, config, task="lowshot")
    assert drawn.details["chosen"]["lowshot10"]["labels"] == "seed 0"
    assert drawn.details["chosen"]["lowshot10"]["num_labels"] == 6
    lists = {"1percent.txt": 1, "10percent.txt": 3}
    for name, count in lists.items():
        lines = [f"{c}_{number}.png" for c in CLASSES for number in range(count)]
        (images / name).write_text("\n".join(lines) + "\n")
    listed = run(images, config, task="lowshot").details["chosen"]
    assert listed["lowshot1"]["labels"] == "1percent.txt"
    assert (listed["lowshot1"]["num_labels"], listed["lowshot1"]["folds"]) == (6, 0)
    assert (listed["lowshot10"]["num_labels"], listed["lowshot10"]["folds"]) == (18, 3)
    (images / "1percent.txt").write_text("gnu_0.png")
    with pytest.raises(PreflightError, match=r"of which 1 are not in train \(gnu_0\)"):
        run(images, config, task="lowshot")


def test_a_set_of_one_s_own_has_its_name(images, tmp_path):
    given = parse_data([f"pets={images}"], own_names=True)
    assert find_labelled_root(given).name == "pets"
    with pytest.raises(UserError, match="unknown kind 'imagnet'"):
        parse_data(["imagnet=/x"], own_names=True)
    two = parse_data([f"pets={images}", f"cars={images}"], own_names=True)
    with pytest.raises(UserError, match=r"names 2 sets of labelled images \(pets, cars\)"):
        find_labelled_root(two)


def test_predictions_are_kept_image_by_image(images, run):
    result = run(images)
    with np.load(result.files[0]) as columns:
        right = columns["rank"] == 0
        assert 100 * right.mean() == pytest.approx(result.metrics["knn_top1"])
        assert (columns["predicted"] == columns["labels"]).tolist() == right.tolist()
        assert columns["indices"].tolist() == list(range(12))
        assert "rank/mean4/k3" in columns
