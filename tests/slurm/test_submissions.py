"""What goes to a real Slurm and how: submitters that die, code that changes, disks, dependents."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
ONE = ("--entries", "vit-nano")
SLURM = ("--executor", "slurm", "--cluster", "my")


def test_a_submitter_that_died_before_it_knew_its_job(sweep):
    tools = sweep.folder / "tools"
    tools.mkdir()
    fake = tools / "sbatch"
    fake.write_text(f'#!/bin/sh\n{shutil.which("sbatch")} "$@"\nkill -9 $PPID\n')
    fake.chmod(0o755)
    gate = sweep.folder / "gate"
    path = f"{tools}:{sweep.environment()['PATH']}"
    died = sweep(*SLURM, *ONE, PATH=path, STAND_IN_GATE=str(gate))
    assert died.returncode == -signal.SIGKILL
    submission = json.loads(next(sweep.runs.glob(".slurm/*/submission.json")).read_text())
    assert submission["arrays"][0]["job"] == ""
    assert ": job " in sweep("recover").stdout
    assert "every submission knows" in sweep("adopt").stdout
    assert sweep.statuses()["coco", "vit-nano", 0]["job"]
    assert "already in the queue" in sweep(*SLURM, *ONE).stderr
    gate.touch()
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["done"]


def test_ten_submitters_at_once_put_each_run_once(sweep):
    gate = sweep.folder / "gate"
    plan = (*SLURM, *ONE, "--seeds", "2")
    started = [sweep.start(*plan, STAND_IN_GATE=str(gate)) for _ in range(10)]
    ends = [(*process.communicate(timeout=300), process.returncode) for process in started]
    jobs = sweep.cluster("squeue", "-h", "-r", "-o", "%i").split()
    assert len(jobs) == 2, ends
    assert sorted(code for *_, code in ends) == [0] + [4] * 9, ends
    gate.touch()
    sweep.wait()
    assert [record["status"] for record in sweep.records()] == ["done", "done"]


def test_a_folder_with_blanks_and_quotes(sweep):
    name = 'my "runs" of Ann\'s'
    done = sweep.submit(*ONE, "--out", name)
    sweep.wait()
    status = sweep("status", "--out", name, "--json")
    assert [one["state"] for one in json.loads(status.stdout)] == ["done"], done.stdout
    assert list((sweep.folder / name / ".slurm").glob("2*/*_0.txt"))


def test_arrays_shorter_than_a_task_has_runs(sweep):
    sweep.cluster.stop("slurmctld")
    sweep.cluster.configure("idle_on_node_suspend", "MaxArraySize=2")
    sweep.cluster.start_controller()
    try:
        sweep.submit(*ONE, "--seeds", "3")
        sweep.wait()
    finally:
        sweep.cluster.stop("slurmctld")
        sweep.cluster.configure("idle_on_node_suspend")
        sweep.cluster.start_controller()
    assert [record["status"] for record in sweep.records()] == ["done"] * 3
    (submission,) = sweep.runs.glob(".slurm/2*/submission.json")
    assert [len(one["runs"]) for one in json.loads(submission.read_text())["arrays"]] == [2, 1]


def test_source_edited_while_the_job_waits(sweep):
    copy = sweep.folder / "checkout"
    for package in ("backbones", "benchmarks", "detection", "pretrain"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pyc*"))
    sweep.profile(sbatch_args='["--hold"]')
    command = [sys.executable, str(copy / "benchmarks" / "run.py"), *ONE, *SLURM]
    done = subprocess.run(command, cwd=sweep.folder, env=sweep.environment(), capture_output=True)
    assert done.returncode == 0, done.stderr
    edited = copy / "benchmarks" / "work" / "execute.py"
    edited.write_text("raise SystemExit('the edited code was run')\n")
    sweep.cluster("scontrol", "release", sweep.cluster("squeue", "-h", "-o", "%A").strip())
    sweep.wait()
    sweep.check_undisturbed()
    code = sweep.records()[0]["environment"]["code"]["sha256"]
    assert (sweep.runs / ".slurm" / "code" / code[:16]).is_dir()


@pytest.mark.parametrize("when", ["fill", "fill-late"], ids=["checkpoint", "record"])
def test_a_disk_that_fills_up(sweep, when):
    sweep.runs.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(sweep.runs)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        sweep.submit(*ONE, STAND_IN_FAIL=f"vit-nano={when}")
        sweep.wait()
        assert not sweep.records()
        (fill,) = sweep.runs.glob("*/work/fill.bin")
        fill.unlink()
        assert sweep.statuses()["coco", "vit-nano", 0]["state"] in ("interrupted", "failed")
        done = sweep("retry", *SLURM)
        assert done.returncode == 0, done.stderr
        sweep.wait()
        sweep.check_undisturbed()
        assert sweep.outcomes()[-1] == "done"
    finally:
        subprocess.run(["umount", "-l", str(sweep.runs)], check=True)


def test_what_needs_weights_runs_behind_them(sweep):
    sweep.submit("--entries", "mae-nano,swin-nano")
    sweep.wait()
    found = {(r["spec"]["task"], r["labels"]["entry"]): r for r in sweep.records()}
    assert found["coco", "mae-nano"]["created"] >= found["pretrain", "mae-nano"]["finished"]
    assert len(found) == 3


def test_what_needs_weights_is_blocked_when_they_fail(sweep):
    sweep.submit("--entries", "mae-nano", STAND_IN_FAIL="vit-nano=user")
    sweep.wait()
    states = {key[0]: status["state"] for key, status in sweep.statuses().items()}
    assert states == {"pretrain": "failed", "coco": "blocked"}
    done = sweep("retry", "--failed", *SLURM)
    assert done.returncode == 0, done.stderr
    sweep.wait()
    assert {status["state"] for status in sweep.statuses().values()} == {"done"}


def test_submitting_from_inside_of_a_job(sweep):
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), *ONE, *SLURM]
    done = subprocess.run(["srun", "--exclusive", "-N1", "-n1", "--mem=200", *command],
                          cwd=sweep.folder, env=sweep.environment(), capture_output=True,
                          timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["done"]


def test_a_cluster_is_tried_out(sweep):
    sweep.profile(processes="2", mem_gb="2.0")
    drafted = sweep("cluster", "init", "other")
    assert drafted.returncode == 0, drafted.stderr
    done = sweep("cluster", "test", "my")
    verdicts = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert verdicts == ["pass"] * 6, done.stdout + done.stderr
    assert done.returncode == 0
    assert "is there already" in sweep("cluster", "init", "my").stderr


def test_a_refused_profile_is_one_sentence(sweep):
    sweep.profile(partition='"absent"')
    done = sweep(*SLURM, *ONE)
    assert done.returncode == 4
    assert "invalid partition" in done.stderr.lower()
    assert "Traceback" not in done.stderr
