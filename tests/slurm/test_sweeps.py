"""Whole sweeps on real Slurm daemons: whatever happens to a job, its run ends as if nothing had.

Every test compares with what the same run gives undisturbed: metrics, each step done exactly once,
one record, and a journal that tells what happened.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
ONE = ("--entries", "vit-nano")


def working(sweep, steps=2):
    return lambda: any(beat["step"] >= steps for beat in sweep.beats())


def worker(sweep):
    (beat,) = sweep.beats()
    return beat["pid"]


def job(sweep):
    (path,) = sweep.runs.glob("*/job.json")
    return json.loads(path.read_text())["job"]


def test_six_runs_two_at_a_time(sweep):
    sweep.submit("--entries", "vit-nano,swin-nano,resnet-nano", "--seeds", "2", "--max-parallel",
                 "2", STAND_IN_SLEEP="0.2")  # fmt: skip
    running = []

    def finished():
        lines = sweep.cluster("squeue", "-h", "-r", "-t", "R", "-o", "%i").split()
        running.append(len(lines))
        return not sweep.cluster("squeue", "-h")

    sweep.wait_for(finished, 90)
    assert max(running) == 2
    assert len(sweep.records()) == 6
    assert len(list((sweep.runs / ".slurm").glob("2*"))) == 1
    inline = sweep("--entries", "vit-nano,swin-nano,resnet-nano", "--seeds", "2", "--out", "alone")
    assert inline.returncode == 0
    for record in sweep.records():
        alone = json.loads((sweep.folder / "alone" / record["run_id"] / "record.json").read_text())
        assert record["metrics"] == alone["metrics"]
        assert record["environment"]["code"] == alone["environment"]["code"]
        assert record["environment"]["slurm"]["partition"] == "main"


def test_usr2_with_loader_workers_saves_once_and_requeues_once(sweep):
    sweep.submit(*ONE, STAND_IN_SLEEP="0.4", STAND_IN_WORKERS="2")
    sweep.wait_for(working(sweep))
    sweep.cluster("scancel", "--signal=USR2", job(sweep))
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["stopped", "done"]
    assert "by SIGUSR2" in sweep.journal()[0]["reason"]
    assert sweep.records()[0]["environment"]["slurm"]["restarts"] == "1"


def test_the_time_limit_reached_again_and_again(sweep):
    sweep.profile(minutes="1", signal_seconds="40")
    sweep.submit(*ONE, "--recipe", "long", STAND_IN_SLEEP="1.1")
    sweep.wait(240)
    sweep.check_undisturbed(50)
    assert set(sweep.outcomes()[:-1]) == {"stopped"}
    assert len(sweep.outcomes()) >= 2


@pytest.mark.parametrize("partition", ["low", "low0"])
@pytest.mark.parametrize("option", ["idle_on_node_suspend", "preempt_send_user_signal"])
def test_preemption(sweep, partition, option):
    """With a grace time and without, and with the signal of our own choice or only SIGTERM."""
    sweep.cluster.stop("slurmctld")
    sweep.cluster.configure(option)
    sweep.cluster.start_controller()
    sweep.profile(partition=f'"{partition}"', sbatch_args='["--nodelist=n1"]')
    sweep.submit(*ONE, STAND_IN_SLEEP="0.5")
    sweep.wait_for(working(sweep))
    sweep.cluster("sbatch", "-p", "high", "-w", "n1", "--exclusive", "-o", "/dev/null",
                  "--wrap", "sleep 2")  # fmt: skip
    sweep.wait_for(lambda: [b for b in sweep.beats() if b["attempt"] == 2], 90)
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["stopped", "done"]


def test_a_killed_worker_comes_back(sweep):
    sweep.submit(*ONE, STAND_IN_SLEEP="0.4")
    sweep.wait_for(working(sweep))
    os.kill(worker(sweep), signal.SIGKILL)
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["lost", "done"]


def test_three_attempts_without_progress_are_enough(sweep):
    sweep.submit(*ONE, STAND_IN_FAIL="vit-nano=kill")
    sweep.wait(120)
    (record,) = sweep.records()
    assert record["failure"]["type"] == "NoProgress"
    outcomes = [attempt["outcome"] for attempt in record["attempts"]]
    assert set(outcomes) == {"lost"}
    # One more where the first was seen to get ahead before it died.
    assert len(outcomes) in (3, 4)
    assert "3 attempts in a row" in sweep("status").stdout


def test_a_lost_node(sweep):
    sweep.profile(sbatch_args='["--nodelist=n2"]')
    sweep.submit(*ONE, STAND_IN_SLEEP="0.4")
    sweep.wait_for(working(sweep))
    sweep.cluster.lose("n2")
    sweep.wait_for(lambda: sweep.cluster("squeue", "-h", "-t", "PD", "-o", "%i"), 90)
    # slurmctld 22.05 crashes when a node comes back within the second that it was given up.
    time.sleep(3)
    sweep.cluster.start_node("n2")
    sweep.wait(120)
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["lost", "done"]


def test_a_node_that_is_thought_lost(sweep):
    """Only its slurmd died: what runs there goes on while Slurm gives the job to another node."""
    sweep.submit(*ONE, "--recipe", "long", STAND_IN_SLEEP="1.0")
    sweep.wait_for(working(sweep))
    node = sweep.cluster("squeue", "-h", "-r", "-o", "%N").strip()
    sweep.cluster.stop(node, signal.SIGKILL)
    sweep.wait_for(sweep.records, 150)
    sweep.cluster.start_node(node)
    sweep.wait(60)
    sweep.check_undisturbed(50)


def test_a_twin_neither_corrupts_nor_doubles(sweep):
    """Two jobs that both believe the run to be theirs, at the same time on two nodes."""
    sweep.profile(sbatch_args='["--exclusive"]')
    sweep.submit(*ONE, STAND_IN_SLEEP="0.6")
    sweep.wait_for(working(sweep))
    (script,) = sweep.runs.glob(".slurm/2*/array-0.sh")
    sweep.cluster("sbatch", str(script))
    sweep.wait_for(lambda: len(sweep.cluster("squeue", "-h", "-t", "R", "-o", "%N").split()) == 2)
    sweep.wait(120)
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["done"]
    logs = "".join(path.read_text() for path in sweep.runs.glob(".slurm/2*/*.txt"))
    assert "Another process" in logs


def test_the_controller_is_restarted_while_runs_go(sweep):
    # Longer than the controller and squeue may take to give up, which is 16 seconds.
    sweep.submit(*ONE, STAND_IN_SLEEP="4")
    sweep.wait_for(working(sweep))
    sweep.cluster.stop("slurmctld")
    status = sweep.statuses()["coco", "vit-nano", 0]
    assert status["state"] == "running", "our own files come first"
    sweep.cluster.start_controller()
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["done"]


def test_cancelled_runs_stop_and_go_on_when_told(sweep):
    sweep.submit(*ONE, STAND_IN_SLEEP="0.4")
    sweep.wait_for(working(sweep))
    again = sweep("--executor", "slurm", "--cluster", "my", *ONE)
    assert "already in the queue" in again.stderr
    assert "cancelled run" in sweep("cancel", "--all").stdout
    sweep.wait()
    assert sweep.outcomes() == ["stopped"]
    assert sweep.statuses()["coco", "vit-nano", 0]["state"] == "interrupted"
    done = sweep("retry", "--executor", "slurm", "--cluster", "my")
    assert done.returncode == 0, done.stderr
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["stopped", "done"]


def test_two_nodes_that_lose_a_rank(sweep):
    sweep.profile(nodes="2", setup='["export MASTER_ADDR=127.0.0.1"]')
    sweep.submit(*ONE, STAND_IN_SLEEP="0.5")
    sweep.wait_for(working(sweep))
    (follower,) = sweep.runs.glob("*/work/rank-1.pid")
    os.kill(int(follower.read_text()), signal.SIGKILL)
    sweep.wait_for(lambda: [b for b in sweep.beats() if b["attempt"] == 2], 60)
    sweep.wait()
    sweep.check_undisturbed()
    assert len(sweep.outcomes()) == 2
    assert sweep.outcomes()[-1] == "done"
    assert sweep.records()[0]["environment"]["slurm"]["processes"] == "2"


def test_a_submitter_that_died_before_it_knew_its_job(sweep):
    tools = sweep.folder / "tools"
    tools.mkdir()
    fake = tools / "sbatch"
    fake.write_text(f'#!/bin/sh\n{shutil.which("sbatch")} "$@"\nkill -9 $PPID\n')
    fake.chmod(0o755)
    path = f"{tools}:{sweep.environment()['PATH']}"
    died = sweep("--executor", "slurm", "--cluster", "my", *ONE, PATH=path, STAND_IN_SLEEP="0.6")
    assert died.returncode == -signal.SIGKILL
    submission = json.loads(next(sweep.runs.glob(".slurm/*/submission.json")).read_text())
    assert submission["arrays"][0]["job"] == ""
    assert ": job " in sweep("adopt").stdout
    assert "every submission knows" in sweep("adopt").stdout
    assert sweep.statuses()["coco", "vit-nano", 0]["job"]
    again = sweep("--executor", "slurm", "--cluster", "my", *ONE)
    assert "already in the queue" in again.stderr
    sweep.wait()
    sweep.check_undisturbed()


def test_source_edited_while_the_job_waits(sweep):
    copy = sweep.folder / "checkout"
    for package in ("backbones", "benchmarks", "detection", "pretrain"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pyc*"))
    sweep.profile(sbatch_args='["--begin=now+6"]')
    command = [sys.executable, str(copy / "benchmarks" / "run.py"), *ONE,
               "--executor", "slurm", "--cluster", "my"]  # fmt: skip
    done = subprocess.run(command, cwd=sweep.folder, env=sweep.environment(), capture_output=True)
    assert done.returncode == 0, done.stderr
    edited = copy / "benchmarks" / "sweep" / "execute.py"
    edited.write_text("raise SystemExit('the edited code was run')\n")
    sweep.wait()
    sweep.check_undisturbed()
    code = sweep.records()[0]["environment"]["code"]["sha256"]
    assert (sweep.runs / ".slurm" / "code" / code[:16]).is_dir()


def test_a_disk_that_fills_up(sweep):
    sweep.runs.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(sweep.runs)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        sweep.submit(*ONE, STAND_IN_FAIL="vit-nano=fill")
        sweep.wait()
        (fill,) = sweep.runs.glob("*/work/fill.bin")
        fill.unlink()
        assert sweep.statuses()["coco", "vit-nano", 0]["state"] in ("interrupted", "failed")
        done = sweep("retry", "--executor", "slurm", "--cluster", "my")
        assert done.returncode == 0, done.stderr
        sweep.wait()
        sweep.check_undisturbed()
    finally:
        subprocess.run(["umount", "-l", str(sweep.runs)], check=True)


def test_what_needs_weights_runs_behind_them(sweep):
    sweep.submit("--entries", "mae-nano,swin-nano", STAND_IN_SLEEP="0.2")
    sweep.wait()
    found = {(r["spec"]["task"], r["labels"]["entry"]): r for r in sweep.records()}
    assert found["coco", "mae-nano"]["created"] >= found["pretrain", "mae-nano"]["finished"]
    assert len(found) == 3


def test_what_needs_weights_is_blocked_when_they_fail(sweep):
    sweep.submit("--entries", "mae-nano", STAND_IN_FAIL="vit-nano=user")
    sweep.wait()
    states = {key[0]: status["state"] for key, status in sweep.statuses().items()}
    assert states == {"pretrain": "failed", "coco": "blocked"}
    done = sweep("retry", "--failed", "--executor", "slurm", "--cluster", "my")
    assert done.returncode == 0, done.stderr
    sweep.wait()
    assert {status["state"] for status in sweep.statuses().values()} == {"done"}


def test_submitting_from_inside_of_a_job(sweep):
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), *ONE,
               "--executor", "slurm", "--cluster", "my"]  # fmt: skip
    done = subprocess.run(["srun", "--exclusive", "-N1", "-n1", "--mem=200", *command],
                          cwd=sweep.folder, env=sweep.environment(), capture_output=True,
                          timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    sweep.wait()
    sweep.check_undisturbed()


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
    done = sweep("--executor", "slurm", "--cluster", "my", *ONE)
    assert done.returncode == 4
    assert "invalid partition" in done.stderr.lower()
    assert "Traceback" not in done.stderr
