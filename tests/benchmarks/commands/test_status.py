"""What status makes of what Slurm says; its commands are stand-ins here."""

import pytest

from benchmarks.commands.status import survey
from benchmarks.slurm.cluster import Cluster
from benchmarks.slurm.submission import plan_submission
from benchmarks.store.folders import Store
from benchmarks.store.heartbeat import Heartbeat, write_heartbeat

# Jobs that never began share a line; other submissions' jobs are of no interest.
ACCOUNTS = "9_0|OUT_OF_MEMORY|0:125\n9_[1,3-8%2]|CANCELLED by 1000|0:0\n9_2|COMPLETED|0:0\n"


@pytest.fixture
def submitted(tmp_path, monkeypatch, make_request, make_spec):
    """Return a store of three submitted runs, the first begun, and a way to say what Slurm says."""
    store = Store(tmp_path / "runs")
    requests = [make_request(make_spec(seed=seed)) for seed in range(3)]
    folders = [store.prepare(request) for request in requests]
    submission = plan_submission(store, Cluster("my"), tmp_path, requests).with_job(0, "9")
    submission.folder.mkdir(parents=True)
    submission.save()
    write_heartbeat(folders[0].heartbeat, Heartbeat(1, "gone", 1, 0.0, 0.0, "train", 3, 10))
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")

    def say(**answers):
        for name, answer in answers.items():
            answer = f"cat <<'END'\n{answer}END" if answer is not None else "exit 1"
            (tools / name).write_text(f'#!/bin/sh\necho "$@" >> {tools}/asked\n{answer}\n')
            (tools / name).chmod(0o755)
        return {status.seed: status for status in survey(store)[0]}

    say.asked = tools / "asked"
    return say


def test_accounting_says_how_jobs_ended_that_are_gone(submitted):
    found = submitted(squeue="9|2|PENDING|Priority|backbench|0:00\n", sacct=ACCOUNTS)
    assert found[0].state == "interrupted"
    assert found[0].note == (
        "goes on from train 3/10; Slurm's accounting: OUT_OF_MEMORY, exit code 0:125"
    )
    assert found[0].job == "9_0"
    assert found[1].state == "missing"
    assert found[1].note == "Slurm's accounting: CANCELLED by 1000"
    assert (found[2].state, found[2].note) == ("queued", "Priority"), "the queue comes before"


@pytest.mark.parametrize(
    "name", ["9_[0-2]", "9_[0,1,2%1]", "9_[0-100:2,1]", "9_[0-1,2,7,20...]"], ids=str
)
def test_jobs_that_never_began_are_found_in_the_line_they_share(submitted, name):
    found = submitted(squeue="", sacct=f"{name}|CANCELLED|0:0\n")
    assert {status.note.partition(": ")[2] for status in found.values()} == {"CANCELLED"}


def test_without_accounting_nothing_is_missed(submitted, capsys):
    found = submitted(squeue="", sacct=None)
    assert [found[seed].state for seed in range(3)] == ["interrupted", "missing", "missing"]
    assert found[0].note == "goes on from train 3/10"
    assert capsys.readouterr().err == ""


def test_without_slurm_files_alone_speak(submitted, capsys):
    found = submitted(squeue=None, sacct=None)
    assert found[0].state == "interrupted"
    assert "Slurm's queue is not in this table" in capsys.readouterr().err
