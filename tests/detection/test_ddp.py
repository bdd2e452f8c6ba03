"""Two processes over gloo train as one does with the same global batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = "ddp_run.py"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit-nano", "swin-nano"])
def test_two_processes_train_as_one(
    name: str,
    write_coco: Callable[..., Path],
    launch_together: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    data = str(write_coco())
    alone = launch_together(SCRIPT, 1, [name, data, str(tmp_path / "one")])
    together = launch_together(SCRIPT, 2, [name, data, str(tmp_path / "two")])
    assert len(alone["losses"]) == 3
    for one, two in zip(alone["losses"], together["losses"], strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-4)
    assert together["weights"] == pytest.approx(alone["weights"], rel=1e-5)
