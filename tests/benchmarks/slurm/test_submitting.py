"""Submissions side by side, and into clusters with small limits."""

import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from backbones.base.errors import PreflightError, UserError
from benchmarks.cli import main
from benchmarks.slurm import client as slurm
from benchmarks.slurm import lock
from benchmarks.slurm.cluster import Cluster, parse_cluster
from benchmarks.slurm.sbatch import check_folder
from benchmarks.slurm.submission import plan_submission, read_submissions
from benchmarks.store.folders import Store

_SPEC = importlib.util.spec_from_file_location(
    "fake_slurm", Path(__file__).with_name("fake_slurm.py")
)
fake_slurm = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fake_slurm)
SLURM = ("--executor", "slurm", "--cluster", "my")
ONE = ("--entries", "vit-nano")


@pytest.fixture
def cluster(run_py):
    """Return the stand-in of a cluster that ``run_py`` submits to."""
    (run_py.folder / "clusters").mkdir()
    (run_py.folder / "clusters" / "my.toml").write_text("minutes = 7\n")
    return fake_slurm.FakeSlurm(run_py.folder / "fake")


def test_submitters_side_by_side_put_each_run_once(run_py, cluster):
    plan = (*SLURM, *ONE, "--seeds", "2")
    started = [run_py.start(*plan, PATH=cluster.path) for _ in range(4)]
    ends = [(*process.communicate(timeout=120), process.returncode) for process in started]
    assert len(cluster.queue()) == 2, ends
    assert sorted(code for *_, code in ends) == [0, 4, 4, 4]
    assert sum("submitted 2 runs" in out for out, *_ in ends) == 1
    assert sum("already in the queue as job" in err for _, err, _ in ends) == 3


def test_who_submits_is_waited_for_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, "_QUIET_SECONDS", 0.1)
    monkeypatch.setattr(lock, "_PATIENCE_SECONDS", 0.3)
    code = (
        "import sys, time; from pathlib import Path; from benchmarks.slurm.lock import submitting\n"
        "with submitting(Path(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    )
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE,
                          env={**os.environ, "PYTHONPATH": str(root)}) as holder:  # fmt: skip
        assert holder.stdout.readline() == b"in\n"
        with pytest.raises(PreflightError) as caught, lock.submitting(tmp_path):
            raise AssertionError("two submissions at once")
        assert f"process {holder.pid} on " in str(caught.value)
        assert "delete the file" in str(caught.value)
        assert f"Waiting for process {holder.pid}" in capsys.readouterr().err
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with lock.submitting(tmp_path):
        assert json.loads((tmp_path / ".slurm" / "lock.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".slurm" / "lock.json").exists()


def test_without_flock_a_file_is_the_lock(tmp_path, monkeypatch):
    class WithoutFlock(filelock.FileLock):
        def acquire(self, *arguments, **options):
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "FileLock", WithoutFlock)
    with lock.submitting(tmp_path):
        assert (tmp_path / ".slurm" / "lock.soft").exists()
    assert not (tmp_path / ".slurm" / "lock.soft").exists()


def test_arrays_are_as_long_as_the_cluster_allows(run_py, cluster):
    cluster.limit("MaxArraySize", 2)
    done = run_py(*SLURM, *ONE, "--seeds", "5", PATH=cluster.path)
    assert done.returncode == 0, done.stderr
    assert [(job, index) for job, index, *_ in cluster.queue()] == [
        ("1", "0"), ("1", "1"), ("2", "0"), ("2", "1"), ("3", "0")
    ]  # fmt: skip
    cluster.limit("MaxArraySize", 0)
    done = run_py(*SLURM, "--entries", "swin-nano", PATH=cluster.path)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "allows no job arrays" in done.stderr


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        ("MaxArraySize            = 1001\n", 1000),
        ("MaxArraySize            = 5\n", 5),
        ("MaxArraySize = 100\nSchedulerParameters     = bf_interval=1,max_array_tasks=30\n", 30),
        ("nothing of the kind", 1000),
    ],
)
def test_limits_of_arrays_are_read(monkeypatch, said, limit):
    monkeypatch.setattr(slurm, "ask", lambda command: said)
    assert slurm.largest_array(1000) == limit


@pytest.mark.parametrize("kind", ["MaxSubmitJobs", "MaxJobCount"])
def test_a_full_queue_takes_what_it_can_and_the_rest_later(run_py, cluster, kind):
    cluster.limit(kind, 3)
    plan = (*SLURM, *ONE, "--seeds", "5")
    done = run_py(*plan, PATH=cluster.path)
    assert done.returncode == 3, done.stderr
    assert "submitted 3 runs" in done.stdout
    assert "2 of 5 runs are not submitted: Slurm accepts no more jobs" in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(cluster.queue()) == 3
    # What did not go in is neither waited for nor looked for.
    assert "every submission knows its jobs" in run_py("recover", PATH=cluster.path).stdout
    cluster.end(2)
    done = run_py(*plan, "--json", PATH=cluster.path)
    found = json.loads(done.stdout)
    # The first two are gone without a record, so they are submitted again.
    assert (done.returncode, len(found["submitted"]), len(found["unsubmitted"])) == (3, 2, 2)
    assert len(cluster.queue()) == 3
    full = run_py(*plan, "--json", PATH=cluster.path)
    assert (full.returncode, json.loads(full.stdout)["submitted"]) == (4, {})


def test_needed_runs_of_a_halved_array_are_waited_for(tmp_path, make_request, make_spec):
    needed = [make_request(make_spec(task="pretrain", seed=seed)) for seed in range(3)]
    needing = [make_request(make_spec(seed=s), needs=needed[s].spec.run_id) for s in range(3)]
    requests = [*needed, *needing]
    whole = plan_submission(Store(tmp_path), Cluster("my"), tmp_path, requests)
    halved = whole.halved(0)
    assert [len(array.runs) for array in halved.arrays] == [1, 3, 2]
    assert halved.arrays[0].runs + halved.arrays[2].runs == whole.arrays[0].runs
    assert [array.after for array in halved.arrays] == [(), (0, 2), ()]
    assert len({array.name for array in halved.arrays}) == 3


def test_wait_submits_the_rest_when_places_are_free(run_py, cluster):
    cluster.limit("MaxSubmitJobs", 1)
    sleepy = run_py.folder / "again"
    sleepy.mkdir()
    (sleepy / "sitecustomize.py").write_text(
        "import runpy, pathlib\n"
        f"runpy.run_path({str(Path(run_py.environment()['PYTHONPATH']) / 'sitecustomize.py')!r})\n"
        "import builtins, time\nsleep = time.sleep\n"
        "time.sleep = lambda seconds: sleep(min(seconds, 0.2))\n"
    )
    path = os.pathsep.join([str(sleepy), run_py.environment()["PYTHONPATH"]])
    waiting = run_py.start(*SLURM, *ONE, "--seeds", "2", "--wait", PATH=cluster.path,
                           PYTHONPATH=path)  # fmt: skip
    end = time.monotonic() + 60
    while not cluster.queue():
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(1)
    assert waiting.poll() is None
    cluster.end(1)
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    assert "submitted 2 runs" in out
    assert "1 of 2 runs are submitted; Slurm accepts no more jobs" in err


def test_wait_does_not_wait_for_what_cannot_come(run_py, cluster):
    cluster.limit("MaxSubmitJobs", 0)
    done = run_py(*SLURM, *ONE, "--wait", PATH=cluster.path)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "although none of your jobs is in the queue" in done.stderr


@pytest.mark.parametrize(
    ("argument", "ours"),
    [
        ("--array=1-3", "--array"), ("--array 1-3", "--array"), ("--arr=1-3", "--array"),
        ("-a 1-3", "--array"), ("-a1-3", "--array"), ("--output=x", "--output"),
        ("-o x", "--output"), ("--job-name=x", "--job-name"), ("-J x", "--job-name"),
        ("--requeue", "--requeue"), ("--no-requeue", "--no-requeue"),
        ("--signal=B:TERM", "--signal"),
        ("--open-mode=truncate", "--open-mode"), ("-d afterok:3", "--dependency"),
        ("--time=5", "--time"), ("-t 5", "--time"), ("--nodes=2", "--nodes"), ("-N2", "--nodes"),
        ("-n 4", "--ntasks"), ("-c 4", "--cpus-per-task"), ("--parsable", "--parsable"),
        ("--exclusive --arr 0-3", "--array"), ("--constraint=x -o y", "--output"),
        ("--mem=3G", "--mem"), ("--partition=b", "--partition"), ("-p b", "--partition"),
        ("--gpus-per-node=3", "--gpus-per-node"), ("--gpus=3", "--gpus"), ("-W", "--wait"),
    ],
)  # fmt: skip
def test_options_that_submissions_set_are_refused_with_both_names(argument, ours):
    content = {"partition": "a", "mem_gb": 2, "gpus": 1, "sbatch_args": [argument]}
    with pytest.raises(UserError) as caught:
        parse_cluster(Path("my.toml"), content)
    assert f'"{argument}" collides with {ours},' in str(caught.value)
    assert "my.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "argument",
    ["--constraint=x", "--hold", "--exclusive", "--nodelist=n1", "--partition=b", "--qos=b",
     "--mem=3G", "--gres=gpu:2", "--gpus=1", "--mem-per-cpu=2G", "--comment='-a b'", "--nice=-5",
     "--error=x", "--export=ALL"],
)  # fmt: skip
def test_other_options_are_handed_on(argument):
    cluster = parse_cluster(Path("my.toml"), {"sbatch_args": [argument]})
    assert cluster.sbatch_args == (argument,)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/tmp/x", ".", "..", "", ".hidden", "-x", "a\\b", " a", "a\nb"]
)
def test_a_profile_is_not_named_like_a_path(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert main(["cluster", "init", "--", name]) == 2
    said = capsys.readouterr().err
    assert "a profile's name cannot be a path" in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["inner"]


@pytest.mark.parametrize("name", ["runs-%j", "50%", "a\\b", "a\nb", "runs-%A_%a"])
def test_a_folder_that_slurm_would_rename_is_refused(run_py, cluster, name):
    with pytest.raises(UserError, match="its full path contains"):
        check_folder(run_py.folder / name)
    for more in ((), ("--dry-run",)):
        done = run_py(*SLURM, *ONE, "--out", name, *more, PATH=cluster.path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert not cluster.queue()


def test_a_folder_with_blanks_and_quotes(run_py, cluster):
    name = 'my "runs" of Ann\'s'
    done = run_py(*SLURM, *ONE, "--out", name, PATH=cluster.path)
    assert done.returncode == 0, done.stderr
    (hint,) = [line for line in done.stdout.splitlines() if line.startswith("submitted")]
    hints = hint.split("`")[1::2]
    assert len(hints) == 2
    for text in hints:
        words = subprocess.run(["bash", "-c", f'printf "%s\\0" {text}'], capture_output=True,
                               text=True, check=True).stdout.split("\0")  # fmt: skip
        assert words[2:4] == ["--out", name]
    (submission,) = read_submissions(Store(run_py.folder / name))
    assert submission.arrays[0].job == "1"
