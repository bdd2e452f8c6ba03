"""When a checkpoint that another program writes is whole, and which epoch it has."""

from pathlib import Path

import pytest

from backbones.base.errors import PreflightError
from benchmarks.work.watcher import PATTERNS, Watcher, epoch_of


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watcher(tmp_path: Path, clock: Clock) -> Watcher:
    return Watcher(tmp_path, PATTERNS, 10.0, clock)


def test_a_file_is_whole_when_it_stops_growing(
    watcher: Watcher, clock: Clock, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint-1.pth"
    path.write_bytes(b"one")
    assert list(watcher.settled()) == []
    clock.now = 9.0
    path.write_bytes(b"one and two")
    assert list(watcher.settled()) == []
    clock.now = 18.0
    assert list(watcher.settled()) == []
    assert watcher.waiting
    clock.now = 19.0
    assert list(watcher.settled()) == [path]
    assert not watcher.waiting


def test_a_file_that_is_written_over_settles_again(
    watcher: Watcher, clock: Clock, tmp_path: Path
) -> None:
    path = tmp_path / "last.pth"
    path.write_bytes(b"1")
    watcher.settled()
    clock.now = 10.0
    before = watcher.settled()[path]
    path.write_bytes(b"12")
    assert watcher.settled() == {}
    clock.now = 20.0
    assert watcher.settled()[path] != before


def test_only_checkpoints_are_watched_in_the_order_of_their_epochs(
    watcher: Watcher, clock: Clock, tmp_path: Path
) -> None:
    names = ["epoch-10.pth", "epoch-9.pth", "deep/epoch_11/model.safetensors", "final.ckpt",
             "log.txt", ".epoch-1.pth", ".tmp/epoch-2.pth", "empty-3.pth"]  # fmt: skip
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if "empty" in name else b"x")
    watcher.settled()
    clock.now = 10.0
    found = [str(path.relative_to(tmp_path)) for path in watcher.settled()]
    assert found == [
        "epoch-9.pth",
        "epoch-10.pth",
        "deep/epoch_11/model.safetensors",
        "final.ckpt",
    ]


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="absent is not a folder"):
        Watcher(tmp_path / "absent", PATTERNS, 1.0).settled()


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        ("run/checkpoint-12.pth", 12),
        ("run/checkpoint0099.pth", 99),
        ("run/epoch=9-step=1000.ckpt", 9),
        ("run/vit_b_16_ep30.pth", 30),
        ("run/step_4000/model.safetensors", 4000),
        ("run/last.pth", None),
        ("run/model_0004999.pth", 4999),
        ("run/0012.pth", 12),
        ("run3/last.pth", None),
        ("run3/vit_b_16.pth", None),
        ("run/deep10.pth", None),
    ],
)
def test_the_epoch_is_in_the_name(name: str, epoch: int | None) -> None:
    assert epoch_of(Path(name)) == epoch
