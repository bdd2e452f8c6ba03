"""Data under names of a user's own: annotated or labelled, and never silently unused."""

import json
from pathlib import Path

import pytest

from backbones.base.errors import PreflightError, UserError
from benchmarks.data.roots import find_coco_root, find_labelled_root, parse_data, refuse_unused
from benchmarks.store.folders import Store


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    folder = tmp_path / "boxes" / "train"
    folder.mkdir(parents=True)
    content: dict[str, list[object]] = {"images": [], "annotations": [], "categories": []}
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    return tmp_path / "boxes"


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    (tmp_path / "pets" / "train" / "cat").mkdir(parents=True)
    return tmp_path / "pets"


def test_a_set_goes_to_the_tasks_that_can_read_it(annotated: Path, labelled: Path) -> None:
    given = parse_data([f"mine={annotated}", f"pets={labelled}"], own_names=True)
    boxes, images = find_coco_root(given), find_labelled_root(given)
    assert (boxes.name, boxes.path, boxes.origin) == ("mine", annotated, "--data mine")
    assert (images.name, images.path) == ("pets", labelled)
    refuse_unused(given, [boxes, images])


def test_a_description_or_one_file_is_annotated_data(annotated: Path) -> None:
    for name, text in (("data.toml", "[train]"), ("all.json", "{}")):
        (annotated / name).write_text(text)
        assert find_coco_root({"mine": annotated / name}).path == annotated / name
        assert find_coco_root({"coco": annotated / name}).name == Path(name).stem


def test_data_that_no_task_uses_are_refused(
    labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    given = {"pets": labelled}
    root = find_coco_root(given)
    assert root.mini
    with pytest.raises(PreflightError, match=r"--data pets=.* is used by no task"):
        refuse_unused(given, [root])


def test_two_sets_of_one_kind_are_refused(annotated: Path) -> None:
    with pytest.raises(UserError, match=r"2 sets of annotated images \(a, b\)"):
        find_coco_root({"a": annotated, "b": annotated})


def test_forgetting_leaves_runs_and_other_caches(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("data", "images", "features", "resamples"):
        (store.cache / name).mkdir(parents=True)
        (store.cache / name / "x").write_text("x")
    store.forget()
    store.forget()
    assert [path.name for path in store.cache.iterdir()] == ["resamples"]
