"""What real accounting knows of jobs that are gone, and what status makes of it."""

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
ONE = ("--entries", "vit-nano")
SLURM = ("--executor", "slurm", "--cluster", "my")
SAID = "Slurm's accounting: "


def said(sweep):
    """Return state and what accounting says by seed."""
    found = sweep.statuses().values()
    return {one["seed"]: (one["state"], one["note"].partition(SAID)[2]) for one in found}


def test_jobs_that_somebody_cancelled_before_and_after_they_began(accounted):
    accounted.submit(*ONE, "--seeds", "3", "--max-parallel", "1", STAND_IN_HOLD="1")
    accounted.working()
    job = accounted.cluster("squeue", "-h", "-o", "%F").split()[0]
    accounted.cluster("scancel", job)
    accounted.wait()
    cancelled = "CANCELLED by 0"
    expected = {0: ("interrupted", cancelled), 1: ("missing", cancelled), 2: ("missing", cancelled)}
    # slurmctld tells slurmdbd some seconds later of jobs that never began.
    accounted.wait_for(lambda: said(accounted) == expected, "accounts of all three")
    accounted.cluster.stop("slurmdbd")
    assert {seed: how for seed, (_, how) in said(accounted).items()} == {0: "", 1: "", 2: ""}
    done = accounted("retry", *SLURM)
    assert done.returncode == 0, done.stderr
    accounted.wait()
    assert {state for state, _ in said(accounted).values()} == {"done"}


def test_a_lost_node_that_gives_no_job_back(accounted):
    accounted.submit(*ONE, STAND_IN_HOLD="1")
    accounted.working()
    accounted.cluster("scontrol", "update", f"JobId={accounted.job()}", "Requeue=0")
    node = accounted.node()
    accounted.cluster.lose(node)
    accounted.wait()
    accounted.wait_for(lambda: said(accounted) == {0: ("interrupted", "NODE_FAIL")}, "the account")
    accounted.cluster.start_node(node)
    done = accounted("retry", *SLURM)
    assert done.returncode == 0, done.stderr
    accounted.wait()
    accounted.check_undisturbed()
    assert accounted.outcomes() == ["lost", "done"]


def test_a_batch_script_that_fails_before_the_run_begins(accounted):
    accounted.profile(setup='["exit 41"]')
    accounted.submit(*ONE)
    accounted.wait()
    expected = {0: ("missing", "FAILED, exit code 41:0")}
    accounted.wait_for(lambda: said(accounted) == expected, "the account")


def test_a_limit_on_submitted_jobs_takes_what_fits_and_the_rest_later(accounted):
    cluster, gate = accounted.cluster, accounted.folder / "gate"
    cluster("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=3")
    cluster.stop("slurmctld")
    cluster.configure("idle_on_node_suspend", "AccountingStorageEnforce=limits")
    cluster.start_controller()
    plan = (*SLURM, *ONE, "--seeds", "5")
    try:
        first = accounted(*plan, STAND_IN_GATE=str(gate))
        assert first.returncode == 3, first.stdout + first.stderr
        assert "submitted 3 runs" in first.stdout
        assert "2 of 5 runs are not submitted" in first.stderr
        assert "MaxSubmitJob" in first.stderr
        gate.touch()
        accounted.wait()
        rest = accounted(*plan)
        assert rest.returncode == 0, rest.stderr
        assert "submitted 2 runs" in rest.stdout
        accounted.wait()
    finally:
        cluster.stop("slurmctld")
        cluster.configure("idle_on_node_suspend")
        cluster.start_controller()
        cluster("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=-1")
    assert [record["status"] for record in accounted.records()] == ["done"] * 5
