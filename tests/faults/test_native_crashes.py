"""A library in C that crashes ends a run at the second time, and the file is named."""

import importlib.util
import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from backbones.base.errors import PreflightError
from backbones.base.reading import (
    forget_reading,
    note_reading_in,
    reading,
    reading_noted,
    unfinished_reading,
)
from backbones.base.workers import make_in_workers
from benchmarks.labelled.sets import pcam
from benchmarks.work.crash import LoaderEndedError, explained, notes_of
from detection.data.dataset import Truth
from detection.scoring import cocoeval, evaluate

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_py(tmp_path):
    path = ROOT / "tests" / "benchmarks" / "conftest.py"
    spec = importlib.util.spec_from_file_location("benchmarks_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CommandLine(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS])
def test_the_second_crash_at_the_same_step_ends_the_run_and_names_the_file(run_py, number):
    name = signal.Signals(number).name
    ask = partial(run_py, "--entries", "vit-nano", STAND_IN_FAIL=f"vit-nano={number.value}")
    first = ask()
    assert first.returncode == 3
    where = "at train 5, while it read /data/7.jpg with its annotations"
    how = f"was ended by signal {number.value} ({name})"
    assert f"{how} {where}; the same command" in first.stdout + first.stderr
    assert not list(run_py.runs.glob("*/record.json"))
    second = ask()
    assert second.returncode == 3
    (record,) = run_py.runs.glob("*/record.json")
    failure = json.loads(record.read_text())["failure"]
    assert failure["type"] == "NativeCrash"
    again = where.replace("train 5", "start")
    assert failure["message"] == f"Its process {how} for the second time {again}."
    assert failure["hint"].startswith("Replace or remove that file")
    assert [one["outcome"] for one in json.loads(record.read_text())["attempts"]] == ["lost"] * 2


def test_a_crash_by_chance_is_gone_on_from(run_py):
    ask = partial(run_py, "--entries", "vit-nano")
    assert ask(STAND_IN_FAIL="vit-nano=11").returncode == 3
    assert ask().returncode == 0


class Crashing:
    """Reads files 0 to 9; the sixth crashes the process."""

    def __call__(self, index):
        with reading(f"/data/{index}.jpg"):
            if index == 6:
                signal.raise_signal(signal.SIGSEGV)
        return index


@pytest.mark.parametrize("workers", [1, 3])
def test_a_loader_that_crashes_is_named_with_its_file(tmp_path, monkeypatch, workers):
    class Folder:
        work = tmp_path

    monkeypatch.setenv("BACKBENCH_READING", "")
    note_reading_in(notes_of(Folder))
    with pytest.raises(RuntimeError, match="DataLoader worker") as raised:
        list(make_in_workers(Crashing(), range(10), workers))
    error = explained(raised.value, Folder)
    assert isinstance(error, LoaderEndedError)
    assert error.exit_code == 3
    assert str(error).startswith("A loader process crashed while it read /data/6.jpg. Replace")


_CRASH_IN_THREADS = """
import signal, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from backbones.base.reading import reading, reading_noted
def look(name):
    with reading(name):
        if name == "b.png":
            signal.raise_signal(11)
with reading_noted(Path(sys.argv[1])), ThreadPoolExecutor(2) as pool:
    list(pool.map(look, ["a.png", "b.png"]))
"""


def test_a_command_says_what_the_one_before_could_not_finish(run_py):
    notes = run_py.runs / ".cache" / "reading"
    command = [sys.executable, "-c", _CRASH_IN_THREADS, str(notes)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGSEGV
    said = run_py("--entries", "vit-nano").stderr
    assert "An earlier command ended while it read b.png. If this one crashes as well" in said
    assert "earlier command" not in run_py("--entries", "vit-nano").stderr
    assert not notes.exists()


def test_notes_are_of_living_processes_until_they_end(tmp_path):
    with reading_noted(tmp_path), reading("outer"):
        with reading("inner"):
            (note,) = tmp_path.iterdir()
            assert note.read_bytes().startswith(b"inner\0")
        assert note.read_bytes().startswith(b"outer\0")
        assert unfinished_reading(tmp_path) == []
        forget_reading(tmp_path)
        assert note.exists()
    with reading("nothing"):
        pass
    assert not tmp_path.exists()


def noted(folder):
    """Return what the notes in a folder say right now, of living processes too."""
    return [path.read_bytes().partition(b"\0")[0].decode() for path in folder.glob("main.*")]


def test_scoring_and_hdf5_note_what_they_are_given(tmp_path, monkeypatch):
    seen = []

    def look(*_, **__):
        seen.extend(noted(tmp_path))
        raise OSError("enough was seen")

    truth = Truth(({"image_id": 1, "height": 9, "width": 9, "annotations": []},), ("cat",))
    monkeypatch.setattr(cocoeval, "get_engine", lambda _: look)
    monkeypatch.setattr(cocoeval, "check", lambda *_: None)
    monkeypatch.setattr(pcam, "_open", look)
    (tmp_path / "x.h5").touch()
    with reading_noted(tmp_path):
        with pytest.raises(OSError, match="enough"):
            cocoeval.score(truth, SimpleNamespace(masks=None))
        with pytest.raises(PreflightError, match="enough"):
            pcam._take(tmp_path / "x.h5", "x", (1,), len)
        masks = SimpleNamespace(has=lambda _: True, pred_masks=None)
        monkeypatch.setattr(evaluate, "_encode", look)
        with pytest.raises(OSError, match="enough"):
            evaluate._keep({"image_id": 7}, masks)
    assert seen == [
        "the box detections in 1 images, for hotcoco",
        str(tmp_path / "x.h5"),
        "the masks that were predicted for image 7",
    ]


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").touch()
    with reading_noted(tmp_path / "file" / "notes"), reading("x"):
        pass
