"""The layouts that tools write, with the same images, and what is refused."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backbones.base.errors import PreflightError
from detection.data.dataset import find_coco, load_split, load_truth
from detection.data.facts import read_facts
from detection.data.layouts import is_annotated

Content = dict[str, Any]


@pytest.fixture
def move(write_coco: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a mover of COCO's own layout: files and folders to new places in another folder."""

    def moved(**places: str) -> Path:
        source, target = write_coco(name="source"), tmp_path / "moved"
        names = {
            "train": "annotations/instances_train2017.json",
            "val": "annotations/instances_val2017.json",
            "train_images": "train2017",
            "val_images": "val2017",
        }
        for key, place in places.items():
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            if (target / place).is_dir():
                for file in (source / names[key]).iterdir():
                    file.rename(target / place / file.name)
            else:
                (source / names[key]).rename(target / place)
        return target

    return moved


PAIRS = {
    "coco 2014": ("annotations/instances_train2014.json", "annotations/instances_val2014.json",
                  "train2014", "val2014"),
    "images below a folder": ("annotations/instances_train2017.json",
                              "annotations/instances_val2017.json", "images/train2017",
                              "images/val2017"),
    "cvat": ("annotations/instances_Train.json", "annotations/instances_Validation.json",
             "images/Train", "images/Validation"),
    "fiftyone": ("train/labels.json", "validation/labels.json", "train/data", "validation/data"),
    "any pair": ("train.json", "test.json", "images/train", "images/test"),
    "one folder": ("my_train.json", "my_val.json", "images/my_train", "imgs"),
}  # fmt: skip


@pytest.mark.parametrize("names", PAIRS.values(), ids=PAIRS)
def test_layouts_with_two_splits(
    tmp_path: Path, move: Callable[..., Path], names: tuple[str, str, str, str]
) -> None:
    train, val, train_images, val_images = names
    root = move(train=train, val=val, train_images=train_images, val_images=val_images)
    assert is_annotated(root)
    facts = read_facts(find_coco(root), tmp_path / "cache")
    assert (facts.num_train, facts.num_val) == (4, 4)
    first = load_split(find_coco(root), "val")[0]
    assert Path(first["file_name"]) == root / val_images / "1.png"


def test_roboflow_has_its_images_next_to_the_annotations(
    tmp_path: Path, write_coco: Callable[..., Path]
) -> None:
    root = write_coco()
    for split, name in (("train", "train"), ("val", "valid")):
        (root / f"{split}2017").rename(root / name)
        path = root / "annotations" / f"instances_{split}2017.json"
        path.rename(root / name / "_annotations.coco.json")
    (root / "annotations").rmdir()
    assert read_facts(find_coco(root), tmp_path / "cache").num_val == 4


@pytest.mark.parametrize(
    ("file", "folder", "prefix"),
    [
        ("result.json", "images", "images/"),
        ("annotations/instances_default.json", "images/default", ""),
        ("labels.json", "data", ""),
    ],
    ids=["label studio", "cvat", "fiftyone"],
)
def test_one_file_is_divided_by_a_stated_rule(
    tmp_path: Path,
    write_coco: Callable[..., Path],
    coco_content: Callable[..., Content],
    file: str,
    folder: str,
    prefix: str,
) -> None:
    source, root = write_coco(coco_content(20), name="source"), tmp_path / "one"
    content = coco_content(20)
    for image in content["images"]:
        image["file_name"] = prefix + image["file_name"]
    for path in (root / file, root / folder):
        path.parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content))
    (source / "train2017").rename(root / folder)
    for given in (root, root / file):
        data = find_coco(given)
        facts = read_facts(data, tmp_path / "cache")
        assert (facts.num_train, facts.num_val) == (16, 4)
        assert "4 of 20 images are validation images: a share of 0.2" in facts.notes[0]
        train, val = ({i["image_id"] for i in load_split(data, s)} for s in ("train", "val"))
        assert not train & val
        assert len(train | val) == 20


def describe(root: Path, text: str) -> Path:
    path = root / "data.toml"
    path.write_text(text)
    return path


TABLES = """
[train]
annotations = "annotations/instances_train2017.json"
images = "train2017"
[val]
annotations = "annotations/instances_val2017.json"
"""


def test_a_description_names_files_classes_and_crowds(
    tmp_path: Path, write_coco: Callable[..., Path], coco_content: Callable[..., Content]
) -> None:
    val = coco_content()
    for annotation in val["annotations"]:
        annotation["iscrowd"] = annotation["id"] % 2
    root = write_coco(None, val)
    plain = read_facts(find_coco(describe(root, TABLES)), tmp_path / "cache")
    assert plain.class_names == ("cat", "dog")
    chosen = find_coco(describe(root, 'classes = ["dog"]\ncrowds = "objects"\n' + TABLES))
    facts = read_facts(chosen, tmp_path / "cache")
    assert (facts.class_names, facts.category_ids) == (("dog",), (7,))
    assert facts.fingerprint != plain.fingerprint
    truth = load_truth(chosen, "val")
    assert sum(len(image["annotations"]) for image in truth.images) == 4
    assert not any(a["iscrowd"] for image in truth.images for a in image["annotations"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[train", "not a description"),
        ("[train]\nannotation = 'x'", "not a description"),
        ("[train]\nannotations = 'nowhere.json'", "there is no annotation file"),
        (TABLES.replace('train2017"\n[', 'nowhere"\n['), "there is no image folder"),
        ('crowds = "all"\n' + TABLES, 'use "crowds" or "objects"'),
        ("val_share = 1.5\n" + TABLES, "use a share"),
        ('classes = ["dog", "dog"]\n' + TABLES, "names dog more than once"),
        ("classes = []\n" + TABLES, "classes is empty"),
        ("val_share = 0.3\n" + TABLES, "val_share and split_seed have no use"),
        ('classes = ["cow"]\n' + TABLES, "has no class 'cow'"),
        ('[train]\nregistered = "no_such_module:x"', "is not a data set of detectron2"),
    ],
)
def test_a_wrong_description_is_one_sentence(
    tmp_path: Path, write_coco: Callable[..., Path], text: str, said: str
) -> None:
    path = describe(write_coco(), text)
    with pytest.raises(PreflightError, match=said) as caught:
        read_facts(find_coco(path), tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_a_set_that_detectron2_knows(
    tmp_path: Path, write_coco: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_coco()
    (tmp_path / "my_sets.py").write_text(
        "from pathlib import Path\n"
        "from detectron2.data import DatasetCatalog, MetadataCatalog\n"
        "from detection.data.dataset import find_coco, load_split\n"
        f"data = find_coco(Path({str(root)!r}))\n"
        "for split in ('train', 'val'):\n"
        "    DatasetCatalog.register(f'mine_{split}', lambda s=split: load_split(data, s))\n"
        "    MetadataCatalog.get(f'mine_{split}').set(thing_classes=['cat', 'dog'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = '[train]\nregistered = "my_sets:mine_train"\n[val]\nregistered = "my_sets:mine_val"\n'
    data = find_coco(describe(tmp_path, text))
    sys.modules.pop("my_sets")
    plain = find_coco(root)
    for split in ("train", "val"):
        ours, theirs = load_truth(data, split), load_truth(plain, split)  # type: ignore[arg-type]
        assert ours.class_names == theirs.class_names
        boxes = [[a["bbox"] for a in i["annotations"]] for i in ours.images]
        assert boxes == [[a["bbox"] for a in i["annotations"]] for i in theirs.images]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("labels/train/1.txt", "YOLO"),
        ("Annotations/1.xml", "Pascal VOC"),
        ("notes.json", "no annotations in COCO's format"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, file: str, said: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("{}")
    with pytest.raises(PreflightError, match=said):
        find_coco(tmp_path)
    assert not is_annotated(tmp_path)


def test_a_folder_with_a_description_names_it(tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_text("")
    with pytest.raises(PreflightError, match=r"has a description; give --data NAME=.*data\.toml"):
        find_coco(tmp_path)


def test_several_files_for_a_split_are_not_guessed_among(
    tmp_path: Path, write_coco: Callable[..., Path], coco_content: Callable[..., Content]
) -> None:
    root = write_coco()
    (root / "annotations" / "instances_train2017.json").unlink()
    for name in ("train_a", "train_b"):
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(coco_content()))
    with pytest.raises(PreflightError, match=r"several annotation files .* data\.toml"):
        find_coco(root)
