import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def _load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


daemons = _load("slurm_daemons", _HERE / "daemons.py")
command_line = _load("command_line", _HERE.parent / "benchmarks" / "conftest.py").CommandLine

PROFILE = """
partition = "main"
cpus = 1
mem_gb = 0.1
minutes = 30
signal_seconds = 5
"""


@pytest.fixture(scope="session")
def cluster():
    """Return a running cluster; skips where Debian's packages are missing."""
    reason = daemons.why_not()
    if reason and os.environ.get("BACKBENCH_REQUIRE_SLURM"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    # Short: the path of munged's socket has a limit of 108 characters.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = daemons.SlurmCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.shut_down()
        shutil.rmtree(folder, ignore_errors=True)


class Sweep(command_line):
    """The command line with a cluster behind it."""

    def __init__(self, folder, cluster):
        super().__init__(folder)
        self.cluster = cluster
        self.profile()

    def profile(self, **changes):
        """Write the profile ``my``; values are TOML."""
        lines = dict(line.split(" = ", 1) for line in PROFILE.strip().splitlines())
        lines.update(changes)
        path = self.folder / "clusters" / "my.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(f"{key} = {value}" for key, value in lines.items()))

    def environment(self, **changes):
        return {**super().environment(), **self.cluster.environment, **changes}

    def submit(self, *arguments, **environment):
        done = self("--executor", "slurm", "--cluster", "my", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done

    def statuses(self):
        content = json.loads(self("status", "--json").stdout)
        return {(one["task"], one["entry"], one["seed"]): one for one in content}

    def wait(self, seconds=90.0):
        """Wait until no job is left."""
        daemons.wait_for(lambda: not self.cluster("squeue", "-h"), seconds, "the queue to empty")

    def wait_for(self, condition, seconds=40.0):
        daemons.wait_for(condition, seconds, "a condition")

    def beats(self):
        found = []
        for path in self.runs.glob("*/heartbeat.json"):
            try:
                found.append(json.loads(path.read_text()))
            except ValueError:
                continue
        return found

    def records(self):
        return [json.loads(path.read_text()) for path in self.runs.glob("*/record.json")]

    def journal(self):
        """Return the attempts of the only run."""
        (path,) = self.runs.glob("*/attempts.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]

    def outcomes(self):
        return [attempt["outcome"] for attempt in self.journal()]

    def check_undisturbed(self, num_steps=10, score=18.0):
        """Check that the only run ended like one that nobody disturbed, recorded once."""
        (record,) = self.records()
        assert record["status"] == "done", record["failure"]
        assert record["metrics"]["APbox"]["value"] == score
        assert record["attempt"] == len(record["attempts"])
        (log,) = self.runs.glob("*/work/steps.txt")
        assert [int(n) for n in log.read_text().split()] == list(range(num_steps))
        assert not list(self.runs.glob("*/record-*.json"))


@pytest.fixture
def sweep(tmp_path, cluster):
    """Return the command line in a folder of its own; no job is left behind."""
    cluster.revive()
    yield Sweep(tmp_path, cluster)
    cluster("scancel", "-u", "root")
    daemons.wait_for(lambda: not cluster("squeue", "-h"), 60, "jobs to end")
