"""Names of files and folders that are not UTF-8: Linux allows them, so they work."""

import os
import tarfile
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from PIL import Image
from torch import nn

from backbones.base.files import write_json_atomically
from backbones.checkpoint import Checkpoint, read_record
from backbones.weights.files import read_safetensors, save_weights
from benchmarks.cli import main
from benchmarks.store.folders import Store
from benchmarks.store.record_file import read_full_text, read_text, to_text
from pretrain.data.find import find_images
from tests.benchmarks.conftest import _record, _request

ODD = os.fsdecode(b"odd-\xff")


@pytest.fixture
def odd(tmp_path):
    """Return a folder whose name is not UTF-8."""
    (tmp_path / ODD).mkdir()
    return tmp_path / ODD


def named(text: str):
    record = _record()
    return replace(record, labels=replace(record.labels, entry=f"ckpt:{text}", data=text))


def test_a_record_keeps_such_a_name(odd):
    record, store = named(ODD), Store(odd)
    store.folder(record.run_id).write_record(record)
    scan = store.scan()
    assert not scan.rejected
    assert scan.records[record.run_id].labels == record.labels
    text = store.folder(record.run_id).record.read_bytes()
    assert to_text(read_full_text(text)) == text
    assert read_text(text).labels.entry == f"ckpt:{ODD}"


def test_a_request_keeps_such_a_name(odd):
    request = replace(_request(), entry=ODD, plugins=odd)
    folder = Store(odd).prepare(request)
    assert folder.read_request() == request


def test_commands_work_in_such_a_folder(odd, capsys):
    store, record = Store(odd), named(ODD)
    store.folder(record.run_id).write_record(record)
    (odd / ODD).mkdir()
    (odd / ODD / "record.json").write_text("x")
    bundle = odd / f"{ODD}.zip"
    for command in (
        ["status", "--out", odd],
        ["leaderboard", "--out", odd],
        ["leaderboard", "--json", "--out", odd],
        ["leaderboard", "--html", odd / "page.html", "--out", odd],
        ["bundle", bundle, "--out", odd],
        ["bundle", odd / "bare.zip", "--anonymous", "--out", odd],
        ["merge", bundle, "--out", odd / "there"],
        ["merge", odd / "bare.zip", "--out", odd / "there"],
    ):
        assert main([str(word) for word in command]) == 0, command
    assert "record.json: it is not readable as JSON" in capsys.readouterr().err
    assert set(Store(odd / "there").scan().records) == {record.run_id}


def test_weights_may_have_such_a_name(odd):
    path = odd / f"{ODD}.safetensors"
    layer = nn.Linear(3, 2)
    save_weights(layer, path, Checkpoint("vit-nano", None, ""))
    assert read_record(path).backbone == "vit-nano"
    assert torch.equal(read_safetensors(path)["weight"], layer.weight)


def test_images_may_have_such_names(odd, tmp_path):
    for name in ("cat", ODD):
        (odd / name).mkdir()
        Image.new("RGB", (8, 8)).save(odd / name / f"{ODD}.png")
    found = find_images(odd, tmp_path / "cache")
    assert len(found) == 2
    assert find_images(odd, tmp_path / "cache").fingerprint == found.fingerprint
    with tarfile.open(odd / f"{ODD}.tar", "w") as tar:
        tar.add(odd / ODD / f"{ODD}.png", f"{ODD}.png")
    shard = find_images(odd / f"{ODD}.tar", tmp_path / "cache")
    assert shard.read(0) == (odd / ODD / f"{ODD}.png").read_bytes()
    again = find_images(odd / f"{ODD}.tar", tmp_path / "cache")
    assert (len(again), again.fingerprint) == (1, shard.fingerprint)


def test_a_note_may_hold_such_a_name(tmp_path: Path):
    write_json_atomically(tmp_path / "a.json", {"name": ODD, "town": "Zürich"})
    assert b"\\udcff" in (tmp_path / "a.json").read_bytes()
