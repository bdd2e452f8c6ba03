"""Whole sweeps on real Slurm daemons: whatever happens to a job, its run ends as if nothing had.

Every test compares with what the same run gives undisturbed: metrics, each step done exactly once,
one record, and a journal that tells what happened. Runs that are disturbed wait for it in their
third step, so that no test depends on how fast a machine is.
"""

import json
import os
import signal

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
ONE = ("--entries", "vit-nano")
HOLD = {"STAND_IN_HOLD": "1"}


def worker(sweep):
    (beat,) = sweep.beats()
    return beat["pid"]


def gate(sweep):
    """Return a file that runs wait for in their fourth step, and the variable that says so."""
    path = sweep.folder / "gate"
    return path, {"STAND_IN_GATE": str(path)}


def test_six_runs_two_at_a_time(sweep):
    opening, waiting = gate(sweep)
    plan = ("--entries", "vit-nano,swin-nano,resnet-nano", "--seeds", "2")
    sweep.submit(*plan, "--max-parallel", "2", **waiting)
    sweep.wait_for(lambda: sum(beat["step"] == 3 for beat in sweep.beats()) == 2, "two runs")
    states = sweep.cluster("squeue", "-h", "-r", "-o", "%T").split()
    assert sorted(states) == ["PENDING"] * 4 + ["RUNNING"] * 2
    assert len(sweep.beats()) == 2
    opening.touch()
    sweep.wait()
    assert len(sweep.records()) == 6
    assert len(list((sweep.runs / ".slurm").glob("2*"))) == 1
    inline = sweep(*plan, "--out", "alone")
    assert inline.returncode == 0
    for record in sweep.records():
        alone = json.loads((sweep.folder / "alone" / record["run_id"] / "record.json").read_text())
        assert record["metrics"] == alone["metrics"]
        assert record["environment"]["code"] == alone["environment"]["code"]
        assert record["environment"]["slurm"]["partition"] == "main"


def test_usr2_with_loader_workers_saves_once_and_requeues_once(sweep):
    sweep.submit(*ONE, **HOLD, STAND_IN_WORKERS="2")
    sweep.working()
    sweep.cluster("scancel", "--signal=USR2", sweep.job())
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["stopped", "done"]
    assert "by SIGUSR2" in sweep.journal()[0]["reason"]
    assert sweep.records()[0]["environment"]["slurm"]["restarts"] == "1"


def test_the_time_limit_reached_again_and_again(sweep):
    """Slurm itself looks at limits every thirty seconds, and warns up to a minute early."""
    sweep.profile(minutes="1", signal_seconds="40")
    sweep.submit(*ONE, STAND_IN_HOLD="2")
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["stopped", "stopped", "done"]
    assert "by SIGUSR2" in sweep.journal()[0]["reason"]


@pytest.mark.parametrize("partition", ["low", "low0"])
@pytest.mark.parametrize("option", ["idle_on_node_suspend", "preempt_send_user_signal"])
def test_preemption(sweep, partition, option):
    """With a grace time and without, and with the signal of our own choice or only SIGTERM."""
    sweep.cluster.stop("slurmctld")
    sweep.cluster.configure(option)
    sweep.cluster.start_controller()
    sweep.profile(partition=f'"{partition}"', sbatch_args='["--nodelist=n1"]')
    sweep.submit(*ONE, **HOLD)
    sweep.working()
    sweep.cluster("sbatch", "-p", "high", "-w", "n1", "--exclusive", "-o", "/dev/null",
                  "--wrap", "true")  # fmt: skip
    sweep.working(1, attempt=2)
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["stopped", "done"]


def test_a_killed_worker_comes_back(sweep):
    sweep.submit(*ONE, **HOLD)
    sweep.working()
    os.kill(worker(sweep), signal.SIGKILL)
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["lost", "done"]


def test_three_attempts_without_progress_are_enough(sweep):
    sweep.submit(*ONE, STAND_IN_FAIL="vit-nano=kill")
    sweep.wait()
    (record,) = sweep.records()
    assert record["failure"]["type"] == "NoProgress"
    outcomes = [attempt["outcome"] for attempt in record["attempts"]]
    assert set(outcomes) == {"lost"}
    # One more where the first was seen to get ahead before it died.
    assert len(outcomes) in (3, 4)
    assert "3 attempts in a row" in sweep("status").stdout


def test_a_lost_node(sweep):
    sweep.submit(*ONE, **HOLD)
    sweep.working()
    node = sweep.node()
    sweep.cluster.lose(node)
    sweep.working(3, attempt=2)
    sweep.wait_for(sweep.records, "a record")
    sweep.cluster.start_node(node)
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["lost", "done"]


def test_a_slurmd_that_comes_back_before_its_node_is_given_up(sweep):
    """What manages the job's steps outlives it; the new one finds them, and the job goes on."""
    opening, waiting = gate(sweep)
    sweep.submit(*ONE, **waiting)
    sweep.working()
    node, pid = sweep.node(), worker(sweep)
    before = sweep.cluster.slurmd_start(node)
    sweep.cluster.stop(node, signal.SIGKILL)
    sweep.cluster.start_node(node)
    sweep.wait_for(lambda: sweep.cluster.slurmd_start(node) != before, "the node to register")
    assert (worker(sweep), sweep.node()) == (pid, node)
    opening.touch()
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["done"]


def test_a_node_that_is_thought_lost(sweep):
    """Only its slurmd died: what runs there goes on while Slurm gives the job to another node."""
    opening, waiting = gate(sweep)
    sweep.submit(*ONE, **waiting)
    sweep.working()
    node = sweep.node()
    sweep.cluster.stop(node, signal.SIGKILL)
    sweep.wait_for(lambda: "Another process" in sweep.batch_logs(), "a twin")
    opening.touch()
    sweep.wait_for(sweep.records, "a record")
    sweep.cluster.start_node(node)
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["done"]


def test_a_twin_neither_corrupts_nor_doubles(sweep):
    """Two jobs that both believe the run to be theirs, at the same time on two nodes."""
    opening, waiting = gate(sweep)
    sweep.profile(sbatch_args='["--exclusive"]')
    sweep.submit(*ONE, **waiting)
    sweep.working()
    (script,) = sweep.runs.glob(".slurm/2*/array-0.sh")
    sweep.cluster("sbatch", str(script))
    sweep.wait_for(lambda: "Another process" in sweep.batch_logs(), "a twin")
    opening.touch()
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["done"]


def test_the_controller_is_restarted_while_runs_go(sweep):
    opening, waiting = gate(sweep)
    sweep.submit(*ONE, **waiting)
    sweep.working()
    sweep.cluster.stop("slurmctld")
    status = sweep.statuses()["coco", "vit-nano", 0]
    assert status["state"] == "running", "our own files come first"
    sweep.cluster.start_controller()
    opening.touch()
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["done"]


def test_a_job_waits_for_the_controller_to_ask_for_its_next_start(sweep):
    sweep.submit(*ONE, **HOLD)
    sweep.working()
    sweep.cluster.stop("slurmctld")
    os.kill(worker(sweep), signal.SIGKILL)
    sweep.wait_for(lambda: "is asked again" in sweep.batch_logs(), "a vain question")
    sweep.cluster.start_controller()
    sweep.wait_for(sweep.records, "a record")
    sweep.wait()
    sweep.check_undisturbed()
    assert sweep.outcomes() == ["lost", "done"]


def test_cancelled_runs_stop_and_go_on_when_told(sweep):
    sweep.submit(*ONE, **HOLD)
    sweep.working()
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
    sweep.submit(*ONE, **HOLD)
    sweep.working()
    sweep.wait_for(lambda: list(sweep.runs.glob("*/work/rank-1.pid")), "the second process")
    (follower,) = sweep.runs.glob("*/work/rank-1.pid")
    os.kill(int(follower.read_text()), signal.SIGKILL)
    sweep.working(3, attempt=2)
    sweep.wait()
    sweep.check_undisturbed()
    assert len(sweep.outcomes()) == 2
    assert sweep.outcomes()[-1] == "done"
    assert sweep.records()[0]["environment"]["slurm"]["processes"] == "2"
