"""A worker that is killed at any moment of writing goes on, and ends in the same record."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.store.folders import Store

ROOT = Path(__file__).resolve().parents[2]
# Times, hosts and attempts are what happened; all else is what was found.
_HISTORY = ("attempt", "attempts", "created", "finished", "sha256")
_MOST_POINTS = 200


def _fixtures():
    path = ROOT / "tests" / "benchmarks" / "conftest.py"
    spec = importlib.util.spec_from_file_location("benchmarks_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _work(line, folder, **environment):
    variables = line.environment(**environment)
    variables["PYTHONPATH"] += os.pathsep + str(ROOT)
    command = [sys.executable, "-P", "-m", "benchmarks.work.worker", str(folder)]
    return subprocess.run(command, env=variables, capture_output=True, check=False).returncode


def _found(folder):
    content = json.loads((folder / "record.json").read_text())
    # How fast the machine was is another matter than what was found.
    del content["details"]["timing"]
    return {key: value for key, value in content.items() if key not in _HISTORY}


@pytest.mark.slow
def test_killed_at_every_point_of_writing(tmp_path):
    line = _fixtures().CommandLine(tmp_path)
    planned = line("--entries", "vit-nano", "--set", "schedule.num_steps=3", "--executor", "print")
    assert planned.returncode == 0, planned.stderr
    (request,) = line.runs.glob("*/run.json")
    name = request.parent.name

    def fresh(label):
        folder = tmp_path / label / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_bytes(request.read_bytes())
        return folder

    undisturbed = fresh("undisturbed")
    assert _work(line, undisturbed) == 0
    for point in range(_MOST_POINTS):
        folder = fresh(f"killed-{point}")
        code = _work(line, folder, STAND_IN_DIE_AT=str(point))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if point % 4 == 0:
            # A second death at the same point of what is left, as with a machine that is ill.
            assert _work(line, folder, STAND_IN_DIE_AT=str(point)) in (0, -signal.SIGKILL)
        assert _work(line, folder) == 0
        assert _found(folder) == _found(undisturbed)
        scan = Store(folder.parent).scan()
        assert set(scan.records) == {name}
        assert not list(folder.parent.rglob("*.part"))
        assert not scan.rejected
        numbers = [attempt.number for attempt in scan.records[name].attempts]
        assert numbers == list(range(1, len(numbers) + 1))
    else:
        pytest.fail("there is no end of points")
    assert point >= 17, "three states, the journal and the record are written in several calls each"
