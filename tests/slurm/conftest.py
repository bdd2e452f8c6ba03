import importlib.util
import json
import os
import shutil
import subprocess
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
accounting = _load("slurm_accounting", _HERE / "accounting.py")
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
    _skip_for(daemons.why_not())
    # Short: the path of munged's socket has a limit of 108 characters.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    kept = accounting.why_not(daemons.search_path()) == ""
    cluster = daemons.SlurmCluster(folder, accounting.Accounting if kept else None)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.shut_down()
        shutil.rmtree(folder, ignore_errors=True)


def _skip_for(reason):
    """Skip for a reason, unless there is none, or skips are forbidden."""
    if reason and os.environ.get("BACKBENCH_REQUIRE_SLURM"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


class Sweep(command_line):
    """The command line with a cluster behind it."""

    def __init__(self, folder, cluster, undisturbed):
        super().__init__(folder)
        self.cluster = cluster
        self.undisturbed = undisturbed
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

    def __call__(self, *arguments, **environment):
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def wait(self):
        """Wait until no job is left."""
        self.wait_for(self.cluster.is_idle, "the queue to empty")

    def wait_for(self, condition, what="a condition"):
        """Wait far longer than it should take; a failure tells what Slurm was about."""
        try:
            daemons.wait_for(condition, 240, what)
        except AssertionError as error:
            batch = [f"{path.name}:\n{path.read_text()}" for path in
                     self.runs.glob(".slurm/2*/*.txt")]  # fmt: skip
            raise AssertionError("\n".join([str(error), self.cluster.report(), *batch])) from error

    def working(self, steps=2, attempt=1):
        """Wait until a run has done so many steps, in that attempt or a later one."""
        self.wait_for(lambda: any(b["step"] >= steps and b["attempt"] >= attempt
                                  for b in self.beats()), f"{steps} steps")  # fmt: skip

    def job(self):
        """Return the job of the only run."""
        (path,) = self.runs.glob("*/job.json")
        return json.loads(path.read_text())["job"]

    def node(self):
        """Return the node of the only job."""
        return self.cluster("squeue", "-h", "-r", "-t", "R", "-o", "%N").strip()

    def batch_logs(self):
        """Return what all batch scripts wrote."""
        return "".join(path.read_text() for path in self.runs.glob(".slurm/2*/*.txt"))

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
        """Return the attempts of the only run, as its record has them: without checksums."""
        (path,) = self.runs.glob("*/attempts.jsonl")
        attempts = [json.loads(line) for line in path.read_text().splitlines()]
        return [{k: v for k, v in one.items() if k != "checksum"} for one in attempts]

    def outcomes(self):
        return [attempt["outcome"] for attempt in self.journal()]

    def check_undisturbed(self):
        """Check that the only run ended like one that nobody disturbed, recorded once."""
        (record,) = self.records()
        assert record["status"] == "done", record["failure"]
        for name in ("run_id", "spec", "metrics", "per_class", "curves", "backbone"):
            assert record[name] == self.undisturbed[name]
        assert record["attempt"] == len(record["attempts"])
        assert record["attempts"] == self.journal()
        numbers = [attempt["number"] for attempt in self.journal()]
        assert numbers == list(range(1, record["attempt"] + 1))
        (log,) = self.runs.glob("*/work/steps.txt")
        assert [int(n) for n in log.read_text().split()] == list(range(10)), "lost, or done twice"
        assert not list(self.runs.glob("*/record-*.json"))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Return the record of a run that was done inline, without Slurm, by nobody disturbed."""
    line = command_line(tmp_path_factory.mktemp("undisturbed"))
    done = line("--entries", "vit-nano")
    assert done.returncode == 0, done.stderr
    (path,) = line.runs.glob("*/record.json")
    return json.loads(path.read_text())


@pytest.fixture
def sweep(tmp_path, cluster, undisturbed):
    """Return the command line in a folder of its own; no job is left behind."""
    cluster.revive()
    yield Sweep(tmp_path, cluster, undisturbed)
    cluster("scancel", "-u", "root")
    daemons.wait_for(cluster.is_idle, what="jobs to end")


@pytest.fixture
def accounted(sweep):
    """Return the command line before a cluster that keeps accounts; skips where none can."""
    _skip_for(accounting.why_not(daemons.search_path()))
    return sweep
