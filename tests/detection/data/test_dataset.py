import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from backbones.base.errors import PreflightError
from detection.config import DetectionDataConfig
from detection.data.dataset import find_coco, load_split, load_training_images, load_truth
from detection.data.facts import read_facts

Content = dict[str, Any]


def test_finds_a_data_set_in_cocos_layout(write_coco: Callable[..., Path]) -> None:
    root = write_coco()
    data = find_coco(root, name="tiny", mini=True)
    assert (data.name, data.root, data.mini) == ("tiny", root, True)


@pytest.mark.parametrize("missing", ["annotations/instances_val2017.json", "train2017", "val2017"])
def test_says_what_is_missing(write_coco: Callable[..., Path], missing: str) -> None:
    root = write_coco()
    (root / missing).rename(root.parent / "elsewhere")
    with pytest.raises(PreflightError, match=missing.split("/")[0]):
        find_coco(root)


def test_says_that_the_folder_is_absent(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"nowhere does not exist; .* --data"):
        find_coco(tmp_path / "nowhere")


def test_facts(
    tmp_path: Path, write_coco: Callable[..., Path], coco_content: Callable[..., Content]
) -> None:
    train = coco_content(5)
    # One image has only a crowd, one nothing.
    train["annotations"] = [a for a in train["annotations"] if a["image_id"] != 1 and a["id"] != 20]
    train["annotations"][0]["iscrowd"] = 1
    facts = read_facts(find_coco(write_coco(train)), tmp_path / "cache")
    assert (facts.num_train, facts.num_val) == (3, 4)
    assert facts.class_names == ("cat", "dog")
    assert facts.category_ids == (2, 7)
    assert facts.has_masks
    assert len(facts.fingerprint) == 64


def test_facts_are_kept_until_something_changes(
    tmp_path: Path, write_coco: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, cache = find_coco(write_coco()), tmp_path / "cache"
    first = read_facts(data, cache)
    with monkeypatch.context() as patch:
        patch.setattr("detection.data.facts.read_split", None)
        assert read_facts(data, cache) == first
    path = data.annotation_file("val")
    path.write_text(path.read_text() + " ")
    assert read_facts(data, cache).fingerprint != first.fingerprint


def test_damaged_cache_is_no_answer(tmp_path: Path, write_coco: Callable[..., Path]) -> None:
    data, cache = find_coco(write_coco()), tmp_path / "cache"
    first = read_facts(data, cache)
    for path, text in product(
        sorted((cache / "data").iterdir()),
        ("", "[]", "{}", "\0\xff", '{"facts": {"a": 1}, "key": ""}', '{"kind": 1, "files": []}'),
    ):
        path.write_text(text)
        assert read_facts(data, cache) == first
    for path in sorted((cache / "data").iterdir()):
        path.write_text(path.read_text()[:-30])
        assert read_facts(data, cache) == first


def test_fingerprint_follows_content_not_place(
    tmp_path: Path, write_coco: Callable[..., Path]
) -> None:
    one, two = (find_coco(write_coco(name=name)) for name in ("one", "two"))
    first = read_facts(one, tmp_path / "cache")
    assert read_facts(two, tmp_path / "cache").fingerprint == first.fingerprint
    image = two.image_folder("train") / "1.png"
    image.write_bytes(image.read_bytes() + b"\0")
    other = read_facts(two, tmp_path / "another cache")
    assert other.fingerprint != first.fingerprint


def test_names_missing_and_empty_images(tmp_path: Path, write_coco: Callable[..., Path]) -> None:
    data = find_coco(write_coco())
    folder = data.image_folder("train")
    (folder / "1.png").unlink()
    for name in ("2.png", "3.png", "4.png"):
        (folder / name).write_bytes(b"")
    with pytest.raises(PreflightError) as caught:
        read_facts(data, tmp_path)
    assert "4 of 4 images" in str(caught.value)
    assert "1.png, 2.png, 3.png and 1 more." in str(caught.value)


def test_splits_must_agree(
    tmp_path: Path, write_coco: Callable[..., Path], coco_content: Callable[..., Content]
) -> None:
    val = coco_content()
    val["categories"][0]["name"] = "wolf"
    with pytest.raises(PreflightError, match="different categories"):
        read_facts(find_coco(write_coco(None, val)), tmp_path)


def test_masks_in_one_split_only_count_as_none(
    tmp_path: Path, write_coco: Callable[..., Path], coco_content: Callable[..., Content]
) -> None:
    root = write_coco(None, coco_content(masks=False))
    assert not read_facts(find_coco(root), tmp_path).has_masks


@pytest.mark.parametrize(
    ("split", "purpose"), [("train", "nothing to learn from"), ("val", "nothing to measure")]
)
@pytest.mark.parametrize("crowds", [True, False])
def test_a_split_without_objects_is_refused(
    tmp_path: Path,
    write_coco: Callable[..., Path],
    coco_content: Callable[..., Content],
    split: str,
    purpose: str,
    crowds: bool,
) -> None:
    empty = coco_content()
    crowd = [{**annotation, "iscrowd": 1} for annotation in empty["annotations"]]
    empty["annotations"] = crowd if crowds else []
    data = find_coco(write_coco(**{split: empty}))
    with pytest.raises(PreflightError, match=purpose) as caught:
        read_facts(data, tmp_path / "cache")
    assert f"instances_{split}2017.json" in str(caught.value)
    assert "--data" in str(caught.value)


def test_a_limit_that_leaves_no_object_to_train_on_is_named(
    write_coco: Callable[..., Path], coco_content: Callable[..., Content]
) -> None:
    data = find_coco(write_coco())
    (first,) = ids(load_split(data, "train", limit_images=1))
    others = coco_content()
    others["annotations"] = [a for a in others["annotations"] if a["image_id"] != first]
    data = find_coco(write_coco(others, name="others"))
    with pytest.raises(PreflightError, match=r"None of the 1 training .* raise --limit-images"):
        load_training_images(data, DetectionDataConfig(), seed=0, limit_images=1)
    assert len(load_training_images(data, DetectionDataConfig(), seed=0, limit_images=2)) == 1


def test_a_split_is_detectron2s_list_of_dicts(write_coco: Callable[..., Path]) -> None:
    from detectron2.structures import BoxMode

    data = find_coco(write_coco())
    first = load_split(data, "train")[0]
    assert Path(first["file_name"]) == data.image_folder("train") / "1.png"
    assert set(first) == {"file_name", "image_id", "height", "width", "annotations"}
    assert first["annotations"][0]["bbox_mode"] == BoxMode.XYWH_ABS
    assert load_truth(data, "val").class_names == ("cat", "dog")


def test_limits_are_the_same_every_time_and_nested(
    write_coco: Callable[..., Path], coco_content: Callable[..., Content]
) -> None:
    data = find_coco(write_coco(coco_content(20)))
    limited = {n: ids(load_split(data, "train", limit_images=n)) for n in (0, 3, 7, 20, 99)}
    assert [len(chosen) for chosen in limited.values()] == [0, 3, 7, 20, 20]
    assert set(limited[3]) < set(limited[7])
    assert limited[7] == sorted(limited[7]) != [1, 2, 3, 4, 5, 6, 7]


def test_fractions_follow_the_seed_and_are_nested(
    write_coco: Callable[..., Path], coco_content: Callable[..., Content]
) -> None:
    data = find_coco(write_coco(coco_content(60)))

    def chosen(fraction: float, seed: int) -> set[int]:
        config = DetectionDataConfig(train_fraction=fraction)
        return set(ids(load_training_images(data, config, seed=seed)))

    assert len(chosen(0.01, 0)) == 1
    assert len(chosen(0.1, 0)) == 6
    assert chosen(0.1, 0) < chosen(0.5, 0) < chosen(1.0, 0)
    assert chosen(0.1, 0) == chosen(0.1, 0)
    assert chosen(0.1, 0) != chosen(0.1, 1)


def test_training_drops_images_without_objects(
    write_coco: Callable[..., Path], coco_content: Callable[..., Content]
) -> None:
    train = coco_content(3)
    train["annotations"] = train["annotations"][:2]
    data = find_coco(write_coco(train))
    assert ids(load_training_images(data, DetectionDataConfig(), seed=0)) == [1]
    assert ids(load_training_images(data, DetectionDataConfig(keep_empty=True), seed=0)) == [
        1,
        2,
        3,
    ]
    for annotation in train["annotations"]:
        annotation["iscrowd"] = 1
    empty = find_coco(write_coco(train, name="empty"))
    with pytest.raises(PreflightError, match="nothing to learn from"):
        load_training_images(empty, DetectionDataConfig(keep_empty=True), seed=0)


@pytest.mark.parametrize(
    ("name", "counts", "masks"), [("coco-dev", (206, 80, 80), True), ("bccd", (205, 159, 3), False)]
)
def test_real_data(
    tmp_path: Path, shared_data: Path, name: str, counts: tuple[int, ...], masks: bool
) -> None:
    facts = read_facts(find_coco(shared_data / name), tmp_path)
    assert (facts.num_train, facts.num_val, len(facts.class_names)) == counts
    assert facts.has_masks == masks
    assert facts.notes == ()


def test_reading_facts_imports_no_torch(tmp_path: Path, write_coco: Callable[..., Path]) -> None:
    code = (
        "import sys; from pathlib import Path; from detection.data.dataset import *;"
        "from detection.data.facts import *;"
        f"read_facts(find_coco(Path({str(write_coco())!r})), Path({str(tmp_path)!r}));"
        "assert 'torch' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(root)}
    )


def ids(images: list[dict[str, Any]]) -> list[int]:
    json.dumps(images)  # plain data only
    return [image["image_id"] for image in images]
