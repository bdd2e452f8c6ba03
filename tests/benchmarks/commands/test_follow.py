"""``run.py follow``: every checkpoint once, whatever happens meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from benchmarks import cli
from benchmarks.store.folders import Store
from benchmarks.store.followed import read_followed

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def trainer(tmp_path):
    """Return a function that saves a checkpoint of vit-nano as another trainer would."""
    folder = tmp_path / "trainer"
    folder.mkdir()

    def save(epoch, name="checkpoint-{}.pth"):
        torch.manual_seed(epoch)
        net = get_spec("resnet-nano").build(BuildOptions(img_size=64))
        path = folder / name.format(epoch)
        torch.save({"model": net.state_dict(), "epoch": epoch}, path)
        return path

    return save


def words(tmp_path, *more):
    return ["follow", str(tmp_path / "trainer"), "--tasks", "knn", "--as", "arch=resnet-nano",
            "--settle", "0.2", "--every", "0.1", "--once", "--limit-images", "40", "--executor",
            "inline", "--out", str(tmp_path / "runs"), *more]  # fmt: skip


def done(tmp_path):
    """Return the number of attempts of each finished run, by the epoch in its entry."""
    records = Store(tmp_path / "runs").scan().records.values()
    return {r.labels.entry.partition("?")[0]: r.attempt for r in records if r.status == "done"}


@pytest.mark.slow
def test_each_checkpoint_is_measured_once(tmp_path, trainer, capsys):
    """Also by a second command, as after a requeue, and with a damaged file between them."""
    trainer(1)
    (tmp_path / "trainer" / "checkpoint-2.pth").write_bytes(b"PK damaged")
    assert cli.main(words(tmp_path)) == 3
    out, err = capsys.readouterr()
    assert "checkpoint-2.pth is left out" in err
    assert "training trainer, followed" in out
    assert done(tmp_path) == {"ckpt:checkpoint-1.pth": 1}
    trainer(2)
    trainer(3)
    assert cli.main(words(tmp_path, "--json")) == 0
    measured = json.loads(capsys.readouterr().out)["measured"]
    assert [(one["epoch"], one["state"]) for one in measured] == [
        (1, "done"), (2, "done"), (3, "done"),
    ]  # fmt: skip
    assert done(tmp_path) == {f"ckpt:checkpoint-{epoch}.pth": 1 for epoch in (1, 2, 3)}
    (followed,) = read_followed(tmp_path / "runs")
    assert [one.epoch for one in followed.checkpoints] == [1, 2, 3]


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(tmp_path, trainer):
    for epoch in (1, 2, 3):
        trainer(epoch)
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), *words(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    while not done_files(tmp_path) and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.read_bytes() for path in done_files(tmp_path)}
    assert before
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert set(done(tmp_path)) == {f"ckpt:checkpoint-{epoch}.pth" for epoch in (1, 2, 3)}
    assert all(path.read_bytes() == content for path, content in before.items())


def done_files(tmp_path):
    return sorted((tmp_path / "runs").glob("*/record.json"))


def test_wrong_requests_are_refused_at_once(tmp_path, trainer, capsys):
    runs = ["--out", str(tmp_path / "runs")]
    assert cli.main(["follow", str(tmp_path / "absent"), *runs]) == 4
    assert "is not a folder" in capsys.readouterr().err
    assert cli.main(["follow", str(tmp_path / "trainer"), "--tasks", "knm", *runs]) == 2
    assert 'Did you mean "knn"' in capsys.readouterr().err
    assert cli.main(words(tmp_path)) == 0
    assert "holds no checkpoint" in capsys.readouterr().err
    trainer(1)
    wrong = [word.replace("arch=resnet-nano", "arch=resnet-nan") for word in words(tmp_path)]
    assert cli.main(wrong) == 2
    assert "resnet-nan" in capsys.readouterr().err
