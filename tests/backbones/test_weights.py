import errno
import json
import os
from pathlib import Path

import pytest
import torch
from msgspec.structs import asdict
from torch import nn

from backbones.base.errors import PreflightError
from backbones.base.files import sha256_file
from backbones.checkpoint import Checkpoint, read_record, record_path
from backbones.weights.files import read_safetensors, save_weights

RECORD = Checkpoint(
    backbone="vit-nano",
    path=None,
    sha256="random",
    method="mae",
    data="mini",
    epochs=12.5,
    img_size=128,
    recipe="mae-nano",
    code_version="0.1.0",
    licence="Apache-2.0",
    source="ckpt:elsewhere",
)


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoint:
    return save_weights(nn.Linear(3, 2), tmp_path / "out" / "weights.safetensors", RECORD)


def test_the_record_comes_back_with_its_provenance(saved: Checkpoint) -> None:
    again = read_record(saved.path)
    assert again == Checkpoint(
        **{**asdict(RECORD), "path": saved.path, "sha256": saved.sha256, "source": ""}
    )
    assert saved.sha256 == sha256_file(saved.path)


def test_the_record_holds_no_path_and_nothing_that_was_typed(saved: Checkpoint) -> None:
    content = json.loads(record_path(saved.path).read_text())
    assert "path" not in content
    assert "source" not in content
    moved = saved.path.parent.rename(saved.path.parent.with_name("moved")) / saved.path.name
    assert read_record(moved).path == moved


def test_tensors_come_back_whole(tmp_path: Path) -> None:
    module = nn.BatchNorm2d(4)
    module.register_buffer("strided", torch.arange(6.0).reshape(2, 3).T)
    module.register_buffer("expanded", torch.ones(1).expand(5))
    module.register_buffer("tied", module.weight.detach())
    module.register_buffer("brain_float", torch.ones(2, dtype=torch.bfloat16))
    module.register_buffer("empty", torch.zeros(0, 3))
    path = tmp_path / "w.safetensors"
    save_weights(module, path, RECORD)
    read = read_safetensors(path)
    assert read.keys() == module.state_dict().keys()
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(read[name], tensor, rtol=0, atol=0)


def test_torn_weights_are_refused(saved: Checkpoint) -> None:
    whole = saved.path.read_bytes()
    saved.path.write_bytes(whole[:-5])
    with pytest.raises(PreflightError, match="truncated, damaged or edited"):
        read_record(saved.path)
    with pytest.raises(PreflightError, match="truncated"):
        read_safetensors(saved.path)


def test_one_flipped_bit_is_refused(saved: Checkpoint) -> None:
    content = bytearray(saved.path.read_bytes())
    content[-1] ^= 1
    saved.path.write_bytes(bytes(content))
    with pytest.raises(PreflightError, match="SHA-256"):
        read_record(saved.path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"backbone": "vit-nano", "sha', "not readable as JSON"),
        ("[]", "not a valid checkpoint record: Expected `object`"),
        ("{}", "missing required field `backbone`"),
        ('{"backbone": "x", "sha256": "0", "colour": "red"}', "unknown field `colour`"),
        ('{"backbone": 3, "sha256": "0"}', r"Expected `str`, got `int` at `\$.backbone`"),
        (
            '{"backbone": "x", "sha256": "0", "epochs": "many"}',
            r"got `str` at `\$.epochs`",
        ),
        (
            '{"backbone": "x", "sha256": "0", "img_size": true}',
            "got `bool`",
        ),
    ],
)
def test_an_edited_record_is_one_sentence(saved: Checkpoint, content: str, complaint: str) -> None:
    record_path(saved.path).write_text(content)
    with pytest.raises(PreflightError, match=complaint) as caught:
        read_record(saved.path)
    assert "\n" not in str(caught.value)


def test_a_lost_record_is_one_sentence(saved: Checkpoint) -> None:
    record_path(saved.path).unlink()
    with pytest.raises(PreflightError, match="No such file"):
        read_record(saved.path)


def test_a_full_disk_leaves_the_old_weights(
    saved: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(PreflightError, match="disk is full"):
            save_weights(nn.Linear(3, 2), saved.path, RECORD)
    assert saved.path.read_bytes() == before
    assert [p.name for p in saved.path.parent.iterdir() if p.suffix == ".part"] == []


def test_a_crash_between_weights_and_record_never_pairs_new_with_old(
    saved: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Checkpoint) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("backbones.weights.files.write_record", killed)
    with pytest.raises(KeyboardInterrupt):
        save_weights(nn.Linear(3, 2), saved.path, RECORD)
    with pytest.raises(PreflightError):
        read_record(saved.path)
