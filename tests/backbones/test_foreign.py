import argparse
import os
import pathlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from backbones.base.errors import PreflightError
from backbones.weights.foreign import read_foreign


class Malicious:
    """Unpickling this makes a file, were it allowed to."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.target),))


def refused(path: Path) -> str:
    with pytest.raises(PreflightError) as caught:
        read_foreign(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(path) in sentence
    return sentence


@pytest.mark.parametrize("new_format", [True, False])
def test_what_official_trainers_pickle_is_read(tmp_path: Path, new_format: bool) -> None:
    content = {
        "model": {"w": torch.arange(3.0)},
        "optimizer": {"param_groups": [{"lr": np.float64(0.1), "wd": np.float32(0.5)}]},
        "epoch": np.int64(7),
        "args": argparse.Namespace(out=pathlib.PosixPath("/x"), lr=1e-3),
    }
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    read = read_foreign(path)
    assert torch.equal(read["model"]["w"], torch.arange(3.0))
    assert read["args"].out == pathlib.PosixPath("/x")
    assert read["optimizer"]["param_groups"][0] == {"lr": 0.1, "wd": 0.5}
    assert read["epoch"] == 7


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(2)}, path)
    assert torch.equal(read_foreign(path)["w"], torch.ones(2))


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_that_would_run_code_does_not(tmp_path: Path, new_format: bool) -> None:
    target = tmp_path / "made-by-the-pickle"
    path = tmp_path / "evil.pth"
    content = {"model": {"w": torch.ones(1), "x": Malicious(target)}}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    assert "posix.mkdir, which could run code" in refused(path)
    assert not target.exists()


def test_settings_objects_are_refused_with_the_way_out(tmp_path: Path) -> None:
    yacs = pytest.importorskip("yacs.config")
    path = tmp_path / "simmim.pth"
    torch.save({"model": {}, "config": yacs.CfgNode({"A": 1})}, path)
    assert "weights_only=False)['model']}, OUT)" in refused(path)


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_one_sentence(tmp_path: Path, new_format: bool, kept: float) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"model": {"w": torch.ones(5000)}}, path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert "truncated or no weights file" in refused(path)


@pytest.mark.parametrize("name", ["page.pth", "page.safetensors"])
def test_a_saved_web_page_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("<html><body>404 not found</body></html>")
    assert "truncated or no" in refused(path)


def test_a_list_of_tensors_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "list.pth"
    torch.save([torch.ones(1)], path)
    assert "holds a list" in refused(path)


def test_a_missing_file_and_a_folder_are_one_sentence(tmp_path: Path) -> None:
    assert "no such weights file" in refused(tmp_path / "absent.pth")
    assert "no such weights file" in refused(tmp_path)


def test_reading_leaves_torchs_own_allow_list_alone(tmp_path: Path) -> None:
    path = tmp_path / "plain.pth"
    torch.save({"w": torch.ones(1)}, path)
    # A list made of a set, in whatever order.
    before = set(torch.serialization.get_safe_globals())
    read_foreign(path)
    assert set(torch.serialization.get_safe_globals()) == before
