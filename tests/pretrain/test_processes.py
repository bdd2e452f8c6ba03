"""Runs as processes: several of one run, and one that is killed."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from backbones.weights.files import read_safetensors

ROOT = Path(__file__).resolve().parents[2]


def launch(photos, out, *options, module="launched", **environment):
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.pretrain.{module}", photos, out, *map(str, options)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def launch_group(photos, out, size, *options, module="launched"):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [
        launch(photos, out, *options, module=module, RANK=str(rank), LOCAL_RANK=str(rank), **group)
        for rank in range(size)
    ]
    for process in ranks:
        _, text = process.communicate(timeout=120)
        assert process.returncode == 0, text


def finish(process):
    _, text = process.communicate(timeout=120)
    assert process.returncode == 0, text


@pytest.mark.slow
def test_two_processes_end_in_the_weights_of_one(photos, tmp_path):
    finish(launch(photos, tmp_path / "one", 2))
    launch_group(photos, tmp_path / "two", 2, 2)
    one, two = (read_safetensors(tmp_path / n / "objective.safetensors") for n in ("one", "two"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_no_process_leaves_before_the_state_is_saved(photos, tmp_path):
    launch_group(photos, tmp_path / "stopped", 2, module="launched_stop")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(photos, tmp_path):
    finish(launch(photos, tmp_path / "unbroken", 4))
    killed = tmp_path / "killed"
    for _ in range(3):
        process = launch(photos, killed, 4)
        states = len(list((killed / "states").glob("*.json")))
        deadline = time.monotonic() + 60
        before = newest(killed)
        while newest(killed) == before and process.poll() is None:
            assert time.monotonic() < deadline, "no state was saved"
            time.sleep(0.005)
        process.kill()
        process.communicate()
        assert states <= 2
    finish(launch(photos, killed, 4))
    expected = read_safetensors(tmp_path / "unbroken" / "objective.safetensors")
    found = read_safetensors(killed / "objective.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def newest(out):
    names = sorted(path.name for path in (out / "states").glob("*.json"))
    return names[-1] if names else ""
