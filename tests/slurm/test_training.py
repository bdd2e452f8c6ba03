"""A real training on real Slurm, disturbed in the middle of an epoch, ends in the same weights."""

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
DISTURBED = str(Path(__file__).with_name("disturbed"))
# Three steps an epoch; the run is disturbed in the second step of the first.
PRETRAIN = (
    "pretrain", "mae-nano", "--limit-images", "48", "--set", "schedule.epochs=2", "--set",
    "schedule.batch_size=16", "--set", "schedule.batch_size_per_device=16", "--set",
    "schedule.warmup_epochs=0",
)  # fmt: skip


def test_usr2_in_the_middle_of_an_epoch_changes_no_bit(sweep):
    alone = sweep(*PRETRAIN, "--out", "alone", PYTHONPATH=DISTURBED)
    assert alone.returncode == 0, alone.stderr
    (undisturbed,) = [json.loads(p.read_text()) for p in sweep.folder.glob("alone/*/record.json")]
    done = sweep(*PRETRAIN, "--executor", "slurm", "--cluster", "my", PYTHONPATH=DISTURBED)
    assert done.returncode == 0, done.stderr
    sweep.working(2)
    sweep.cluster("scancel", "--signal=USR2", sweep.job())
    sweep.wait()
    (record,) = sweep.records()
    assert record["status"] == "done", record["failure"]
    assert sweep.outcomes() == ["stopped", "done"]
    assert "by SIGUSR2 in pretrain" in sweep.journal()[0]["reason"]
    assert "2 loader processes" in record["details"]["device"]
    for name in ("run_id", "metrics"):
        assert record[name] == undisturbed[name]
    assert record["curves"]["loss"] == undisturbed["curves"]["loss"]
    weights = {file["path"]: file["sha256"] for file in record["files"]}
    expected = {file["path"]: file["sha256"] for file in undisturbed["files"]}
    assert weights["work/weights.safetensors"] == expected["work/weights.safetensors"]
