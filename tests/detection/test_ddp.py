"""Two processes over gloo train as one does with the same global batch."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("ddp_run.py")
ROOT = Path(__file__).parents[2]


def launch(world_size: int, arguments: list[str]) -> dict[str, Any]:
    """Run the script in ``world_size`` processes; return what the first one printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(SCRIPT), *arguments],
            env={**environment, "RANK": str(number), "LOCAL_RANK": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(world_size)
    ]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [p.returncode for p in processes] == [0] * world_size, outputs
    found: dict[str, Any] = json.loads(outputs[0][0].splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit-nano", "swin-nano"])
def test_two_processes_train_as_one(
    name: str, write_coco: Callable[..., Path], tmp_path: Path
) -> None:
    data = str(write_coco())
    alone = launch(1, [name, data, str(tmp_path / "one")])
    together = launch(2, [name, data, str(tmp_path / "two")])
    assert len(alone["losses"]) == 3
    for one, two in zip(alone["losses"], together["losses"], strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-4)
    assert together["weights"] == pytest.approx(alone["weights"], rel=1e-5)
