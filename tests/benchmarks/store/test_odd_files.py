"""Pipes, devices, endless files, loops and impossible numbers in a folder of runs stop nothing."""

import json
import os
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from backbones.base.files import open_plain, read_plain
from benchmarks.cli import main
from benchmarks.leaderboard.page.pictures import _read
from benchmarks.store.folders import Store
from benchmarks.store.record import Attempt, RunFile
from benchmarks.store.record_file import (
    BadRecordError,
    _digest,
    read_full_text,
    read_text,
    to_content,
)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_device_without_end(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def a_gigabyte_of_nothing(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**30)


ODD = (a_pipe, a_device_without_end, a_folder, a_link_to_itself, a_gigabyte_of_nothing)
FILES = (
    "record.json",
    "run.json",
    "attempts.jsonl",
    "heartbeat.json",
    "work",
    "work/resamples.npz",
)


@pytest.fixture
def runs(tmp_path, make_record, make_request):
    """Return a folder of three finished runs."""
    store = Store(tmp_path / "runs")
    for seed in range(3):
        spec = replace(make_record().spec, seed=seed)
        record = make_record(spec, 30.0 + seed)
        folder = store.prepare(make_request(spec))
        folder.add_attempt(Attempt(1, "host", record.created, record.finished, "done", ""))
        folder.work.mkdir()
        folder.write_record(record)
    return store


@pytest.mark.parametrize("make", ODD)
@pytest.mark.parametrize("name", FILES)
def test_an_odd_file_in_one_run_stops_no_command(runs, tmp_path, name, make, capsys):
    bad = sorted(runs.root.glob("*/record.json"))[0].parent / name
    if bad.is_dir():
        shutil.rmtree(bad)
    bad.unlink(missing_ok=True)
    make(bad)
    out = ["--out", str(runs.root)]
    for form in ([], ["--json"]):
        assert main(["status", *out, *form]) == 0
        assert str(bad) in capsys.readouterr().err or name.startswith("work")
    assert main(["leaderboard", *out, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert "vit" in json.dumps(rows)
    assert main(["bundle", str(tmp_path / "all.zip"), *out, "--json"]) == 0
    left = 2 if name == "record.json" else 3
    assert len(json.loads(capsys.readouterr().out)["records"]) == left


def num_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("make", ODD)
def test_only_plain_files_of_a_size_are_read(tmp_path, make):
    path = tmp_path / "file"
    make(path)
    descriptors = num_open()
    with pytest.raises(OSError, match=r"."):
        read_plain(path)
    assert num_open() == descriptors
    plain = tmp_path / "plain"
    plain.write_bytes(b"whole")
    assert read_plain(plain, 5) == b"whole"
    with pytest.raises(OSError, match="more than 4 bytes"):
        open_plain(plain, 4)


@pytest.mark.parametrize("number", [10**400, -(10**400), 2**63])
@pytest.mark.parametrize("place", ["metric", "cost", "class"])
def test_a_number_without_a_float_is_refused(make_record, number, place):
    content = to_content(make_record())
    if place == "metric":
        content["metrics"]["APbox"]["value"] = number
    elif place == "cost":
        content["cost"]["seconds"] = number
    else:
        content["per_class"] = {"cat": {"APbox": number}}
    content["sha256"] = _digest(content)
    text = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    for read in (read_full_text,) if place == "class" else (read_text, read_full_text):
        with pytest.raises(BadRecordError, match="int"):
            read(text)


def test_a_picture_that_is_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "a.png").symlink_to("a.png")
    with pytest.raises(OSError, match="symbolic links"):
        _read(tmp_path, RunFile("a.png", "0" * 64, 1))
