"""Entries, data roots, and what a worker's process starts with."""

from pathlib import Path

import pytest

from backbones.base.errors import PreflightError, UserError
from backbones.catalog import list_specs
from benchmarks.data.roots import find_coco_root, parse_data
from benchmarks.entries import GROUPS, parse_entries
from benchmarks.plan.weights import parse_pretraining
from benchmarks.store import environment
from benchmarks.store.environment import describe, worker_environment
from pretrain.catalog import recipes


def test_entries_show_names_without_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entries = parse_entries(
        ["vit-nano", "random:swin-t", "timm:resnet18", "random:timm:resnet18",
         "ckpt:deep/x.pth?arch=vit-b16&format=mae"]
    )  # fmt: skip
    assert [entry.name for entry in entries] == [
        "vit-nano", "swin-t", "timm:resnet18", "random:timm:resnet18",
        "ckpt:x.pth?arch=vit-b16&format=mae",
    ]  # fmt: skip
    assert entries[4].source == f"ckpt:{tmp_path}/deep/x.pth?arch=vit-b16&format=mae"


def test_an_entry_named_twice_is_one():
    assert len(parse_entries(["vit-nano", "random:vit-nano", " vit-nano"])) == 1


def test_a_recipe_needs_no_prefix_with_options_either():
    bare, full = (
        parse_entries([f"{prefix}supervised-nano?arch=swin-nano&seed=1"])
        for prefix in ("", "pretrain:")
    )
    assert bare == full
    assert bare[0].name == "supervised-nano?arch=swin-nano&seed=1"


def test_a_group_is_its_entries_each_once():
    entries = parse_entries(["swin-nano", "mini-pretraining"])
    assert [entry.name for entry in entries] == [
        "swin-nano", "vit-nano", "mae-nano", "lomar-nano", "supervised-nano", "simmim-nano",
        "esvit-nano", "supervised-nano?arch=swin-nano",
    ]  # fmt: skip


def test_groups_hide_no_other_entry_and_hold_only_entries_that_exist():
    backbones = {spec.name for spec in list_specs(None)}
    assert not GROUPS.keys() & (backbones | recipes().keys())
    for entry in parse_entries([*GROUPS]):
        wanted = parse_pretraining(entry)
        assert (wanted.recipe in recipes()) if wanted else (entry.name in backbones)


def test_files_of_one_name_are_entries_of_their_own():
    texts = ["ckpt:/a/x/w.pth", "ckpt:/b/x/w.pth", "ckpt:/b/y/w.pth", "ckpt:/b/y/v.pth", "vit-nano"]
    names = [entry.name for entry in parse_entries([*texts, texts[0]])]
    assert names == ["ckpt:a/x/w.pth", "ckpt:b/x/w.pth", "ckpt:y/w.pth", "ckpt:v.pth", "vit-nano"]


def test_data_comes_from_the_command_line_then_the_variable_then_the_mini_data(
    tmp_path, monkeypatch
):
    (tmp_path / "coco").mkdir()
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    assert find_coco_root({}).mini
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    root = find_coco_root({})
    assert (root.name, root.path, root.mini) == ("coco", tmp_path / "coco", False)
    (tmp_path / "mine").mkdir()
    assert find_coco_root(parse_data([f"coco={tmp_path}/mine"])).path == tmp_path / "mine"
    monkeypatch.setenv("DETECTRON2_DATASETS", "/absent")
    with pytest.raises(PreflightError, match="DETECTRON2_DATASETS points at /absent/coco"):
        find_coco_root({})


def test_data_given_twice_is_refused():
    with pytest.raises(UserError, match="twice"):
        parse_data(["coco=a", "coco=b"])


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setattr(environment.platform, "libc_ver", lambda: ("glibc", "2.36"))
    base = {"OMP_NUM_THREADS": "7", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=2", "PYTHONPATH": "/x"}
    made = worker_environment(base)
    assert made["OMP_NUM_THREADS"] == made["MKL_NUM_THREADS"] == "7"
    tunables = made["GLIBC_TUNABLES"].split(":")
    assert tunables[0] == "glibc.malloc.hugetlb=2"
    assert [name.partition("=")[0] for name in tunables[1:]] == [
        "glibc.malloc.mmap_threshold", "glibc.malloc.trim_threshold",
    ]  # fmt: skip
    root, theirs = made["PYTHONPATH"].split(":")
    assert theirs == "/x"
    assert (Path(root) / "benchmarks" / "run.py").is_file()


def test_allocator_settings_are_for_glibc_alone(monkeypatch):
    monkeypatch.setattr(environment.platform, "libc_ver", lambda: ("", ""))
    assert "GLIBC_TUNABLES" not in worker_environment({})


def test_threads_are_chosen_on_purpose(monkeypatch):
    monkeypatch.setattr(environment, "usable_cores", lambda: 16)
    assert worker_environment({})["OMP_NUM_THREADS"] == "12"
    empty = worker_environment({"OMP_NUM_THREADS": "", "MKL_NUM_THREADS": ""})
    assert (empty["OMP_NUM_THREADS"], empty["MKL_NUM_THREADS"]) == ("12", "12")
    monkeypatch.setattr(environment, "usable_cores", lambda: 2)
    assert worker_environment({})["OMP_NUM_THREADS"] == "2"


def test_a_record_names_code_and_libraries():
    found = describe()
    assert len(found["code"]["sha256"]) == 64
    assert found["libraries"]["torch"]
    assert found["detectron2"]
    assert found["cores"] >= 1
