import argparse
import collections
import datetime
import enum
import functools
import json
import os
import pathlib
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
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


def test_settings_objects_beside_the_weights_are_skipped(tmp_path: Path) -> None:
    yacs = pytest.importorskip("yacs.config")
    path = tmp_path / "simmim.pth"
    torch.save({"model": {"w": torch.ones(2)}, "config": yacs.CfgNode({"A": 1})}, path)
    read = read_foreign(path)
    assert torch.equal(read["model"]["w"], torch.ones(2))
    assert not isinstance(read["config"], yacs.CfgNode)


class Setting(enum.Enum):
    """An enum of a trainer's own."""

    ON = 1


class Words(dict):
    """A dictionary of a trainer's own."""


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize(
    "extra",
    [
        np.arange(3),
        np.random.default_rng(0).bit_generator.state,
        np.random.RandomState(0).get_state(),
        datetime.datetime(2026, 1, 1),
        collections.Counter("ab"),
        collections.defaultdict(int, {"a": 1}),
        {1, 2},
        1j,
        b"bytes",
        Setting.ON,
        Words(a=1),
        functools.partial(int, base=2),
        OmegaConf.create({"lr": 1, "many": [1, 2]}),
        pathlib.PureWindowsPath("C:/x"),
    ],
    ids=lambda extra: type(extra).__name__,
)
def test_objects_beside_the_weights_are_read_or_skipped(
    tmp_path: Path, new_format: bool, extra: object
) -> None:
    path = tmp_path / "extra.pth"
    content = {"model": {"w": torch.ones(2)}, "extra": extra, "epoch": 3}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    read = read_foreign(path)
    assert torch.equal(read["model"]["w"], torch.ones(2))
    assert read["epoch"] == 3


@pytest.mark.parametrize("name", ["subprocess.Popen", "os.system", "builtins.eval", "pty.spawn"])
def test_functions_and_programs_are_never_skipped(tmp_path: Path, name: str) -> None:
    module, function = name.rsplit(".", 1)
    path = tmp_path / "evil.pth"
    text = f"c{module}\n{function}\n(S'true'\ntR.".encode()
    path.write_bytes(text)
    assert "could run code" in refused(path)


def test_a_whole_module_gives_its_tensors_without_its_code(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    path = tmp_path / "module.pt"
    torch.save(net, path)
    read = read_foreign(path)
    assert set(read) == set(net.state_dict())
    assert all(torch.equal(read[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("wrong", ["weights.bin", "weights.pth", "weights"])
def test_safetensors_are_known_by_their_content(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / wrong
    save_file({"w": torch.ones(2)}, path)
    assert torch.equal(read_foreign(path)["w"], torch.ones(2))


def test_a_pickle_named_safetensors_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"w": torch.ones(2)}, path)
    assert torch.equal(read_foreign(path)["w"], torch.ones(2))


def test_npz_and_shards_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "vit.npz", **{"a/kernel": np.ones((2, 3), np.float32)})
    assert read_foreign(tmp_path / "vit.npz")["a/kernel"].shape == (2, 3)
    save_file({"a": torch.ones(1)}, tmp_path / "model-1.safetensors")
    save_file({"b": torch.zeros(1)}, tmp_path / "model-2.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    )
    assert set(read_foreign(index)) == {"a", "b"}
    (tmp_path / "model-2.safetensors").unlink()
    assert "names model-2.safetensors, which is absent" in refused(index)


def test_other_containers_are_called_what_they_are(tmp_path: Path) -> None:
    scripted = tmp_path / "scripted.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(scripted)
    assert "TorchScript" in refused(scripted)
    keras = tmp_path / "keras.h5"
    keras.write_bytes(b"\x89HDF\r\n" + b"x" * 99)
    assert "HDF5" in refused(keras)
    pointer = tmp_path / "pointer.bin"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "git lfs pull" in refused(pointer)
    folder = tmp_path / "dcp"
    folder.mkdir()
    (folder / ".metadata").write_bytes(b"x")
    assert "dcp_to_torch_save" in refused(folder)


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


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("protocol", [4, 5])
def test_a_pickle_protocol_that_torch_does_not_read_is_named(
    tmp_path: Path, archive: bool, protocol: int
) -> None:
    path = tmp_path / "late.pth"
    torch.save(
        {"a": torch.ones(2)},
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=archive,
    )
    assert "with torch.save(CONTENT, FILE) without pickle_protocol" in refused(path)


@pytest.mark.parametrize("order", ["<f4", ">f4"])
def test_arrays_of_either_byte_order_are_read(tmp_path: Path, order: str) -> None:
    array = np.arange(3).astype(order)
    np.savez(tmp_path / "a.npz", a=array)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": array}))
    for name in ("a.npz", "a.pkl"):
        assert read_foreign(tmp_path / name)["a"].tolist() == [0, 1, 2]


def test_a_tar_archive_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "w.tar", "w") as archive:
        archive.add(__file__, "w.pth")
    assert "is a tar archive; unpack it first" in refused(tmp_path / "w.tar")
