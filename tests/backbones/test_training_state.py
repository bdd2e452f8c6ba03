"""Saved states: whole or passed over, and never another run's."""

import json
from pathlib import Path

import pytest
import torch

from backbones.base.errors import UserError
from backbones.training.state import StateFolder, TrainingState, random_seed

ME = {"recipe": "mini", "seed": "0"}


def state(step: int) -> TrainingState:
    return TrainingState(step, {"model.w": torch.full((3,), float(step))}, {"seconds": 1.0})


def test_two_states_are_kept(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path, ME)
    for step in (1, 2, 3):
        folder.save(state(step))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"step-0000000{n}.{suffix}" for n in (2, 3) for suffix in ("json", "safetensors")
    ]
    newest = folder.newest(pytest.fail)
    assert newest is not None
    assert (newest.step, newest.notes) == (3, {"seconds": 1.0})
    assert torch.equal(newest.tensors["model.w"], torch.full((3,), 3.0))


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "no record", "torn record"])
def test_every_damage_is_noticed(damage: str, tmp_path: Path) -> None:
    folder = StateFolder(tmp_path, ME)
    folder.save(state(1))
    folder.save(state(2))
    path = tmp_path / "step-00000002.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(content[:-1])
    elif damage == "flip":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no record":
        path.with_suffix(".json").unlink()
    else:
        path.with_suffix(".json").write_text('{"sha256": "')
    said: list[str] = []
    found = folder.newest(said.append)
    assert found is not None
    assert found.step == 1
    assert len(said) == 1


def test_nothing_sound_means_a_new_start(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "none", ME)
    assert folder.newest(pytest.fail) is None
    folder.save(state(1))
    (tmp_path / "none" / "step-00000001.json").write_text("{}")
    said: list[str] = []
    assert folder.newest(said.append) is None
    assert said


def test_another_runs_state_is_refused(tmp_path: Path) -> None:
    StateFolder(tmp_path, ME).save(state(1))
    assert json.loads((tmp_path / "step-00000001.json").read_text())["identity"] == ME
    with pytest.raises(UserError, match=r"another run .*seed 0 instead of 1"):
        StateFolder(tmp_path, {"recipe": "mini", "seed": "1"}).newest(pytest.fail)


def test_seeds_differ_by_every_part_of_their_origin() -> None:
    seeds = {random_seed(s, t, i) for s in range(3) for t in range(5) for i in range(4)}
    assert len(seeds) == 60
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(("grace", "said"), [("180", 1), ("250", 0), (None, 0)])
def test_saves_that_take_longer_than_the_time_left_for_them_are_told_once(
    tmp_path, monkeypatch, grace, said
):
    clock = iter(range(0, 2000, 100))
    monkeypatch.setattr("backbones.training.state.time.perf_counter", lambda: next(clock))
    monkeypatch.delenv("BACKBENCH_GRACE_SECONDS", raising=False)
    if grace:
        monkeypatch.setenv("BACKBENCH_GRACE_SECONDS", grace)
    folder, words = StateFolder(tmp_path, ME), []
    assert folder.newest(words.append) is None
    folder.save(state(1))
    folder.save(state(2))
    assert len(words) == said
    assert all("took 100 s of the 180 s" in text and "above 300" in text for text in words)
