"""What becomes of a job whose worker ended, without any Slurm."""

import time
from datetime import datetime

import pytest
from msgspec.structs import replace

from benchmarks.commands.status import survey
from benchmarks.slurm import requeue
from benchmarks.slurm.cluster import Cluster
from benchmarks.slurm.job import REQUEUE
from benchmarks.slurm.progress import read_requeues
from benchmarks.slurm.submission import plan_submission
from benchmarks.store.folders import Store
from benchmarks.store.heartbeat import Heartbeat, write_heartbeat
from benchmarks.work.contract import BLOCKED, BUSY, DONE, FAILED


@pytest.fixture
def ended(tmp_path, make_request, monkeypatch):
    """Return a function that asks what becomes of a job whose worker ended with a code."""
    cluster = Cluster("my")
    request = make_request()
    store = Store(tmp_path)
    folder = store.prepare(request)
    submission = plan_submission(store, cluster, tmp_path, [request])
    submission.folder.mkdir(parents=True)
    submission.save()
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "9")
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    requeued = []
    monkeypatch.setattr(requeue.slurm, "requeue", requeued.append)
    monkeypatch.setattr(requeue, "_memory_ran_out", lambda: False)
    monkeypatch.setattr(requeue, "_END_PATIENCE_SECONDS", 0.0)

    def ask(code, step=None, **facts):
        facts = {"JobState": "RUNNING", "PreemptTime": "None", **facts}
        monkeypatch.setattr(requeue.slurm, "job_facts", lambda job: facts)
        if step is not None:
            write_heartbeat(folder.heartbeat, Heartbeat(1, "h", 1, 0.0, 0.0, "train", step, 10))
        requeued.clear()
        requeue.main([str(submission.folder), "0", str(code)])
        return requeued == ["9_0"]

    ask.folder = folder
    return ask


@pytest.mark.parametrize(
    ("code", "facts", "back"),
    [
        (DONE, {}, False),
        (FAILED, {}, False),
        (REQUEUE, {}, True),
        (REQUEUE, {"JobState": "CANCELLED"}, False),
        (REQUEUE, {"JobState": "TIMEOUT"}, True),
        (130, {}, False),
        (130, {"PreemptTime": "2026-01-01T00:00:00"}, True),
        (130, {"EndTime": "2026-01-01T00:00:00"}, True),
        (130, {"EndTime": "2126-01-01T00:00:00"}, False),
        (130, {"JobState": "PREEMPTED"}, False),
        (137, {}, True),
        (139, {}, True),
        (BUSY, {}, True),
        (BLOCKED, {}, True),
    ],
)
def test_who_comes_back(ended, code, facts, back):
    assert ended(code, step=1, **facts) is back


def test_without_progress_a_job_comes_back_twice_and_then_fails(ended):
    assert [ended(137, step=s) for s in (3, 3, 4, 4, 4)] == [True] * 5
    assert ended(137, step=4) is False
    record = ended.folder.read_record()
    assert record.failure.type == "NoProgress"
    assert record.attempts[-1].outcome == "lost"


def soon(seconds=0.0):
    return datetime.fromtimestamp(time.time() + seconds).isoformat(timespec="seconds")


@pytest.mark.parametrize("code", [REQUEUE, 130, 137])
def test_a_time_limit_too_short_is_said_after_the_second_attempt(ended, code, capfd):
    """5 of 1,755 steps an attempt: 30 s of start and 2 s a step make 60 + 1.2 * 3,510 s."""
    for attempt, step in enumerate((5, 10), start=1):
        now = time.time()
        phase_time, first = now - 10.0, step - 5
        beat = Heartbeat(1, "h", attempt, now - 40.0, now, "train", step, 1755)
        beat = replace(beat, phase_time=phase_time, phase_step=first)
        write_heartbeat(ended.folder.heartbeat, beat)
        assert ended(code, TimeLimit="00:01:00", EndTime=soon()) is True
        said = capfd.readouterr().err
        assert bool(said) is (attempt == 2)
    expected = (
        "2 attempts ended at the time limit of 1 min, the last one at step 10 of 1,755 (train); "
        "about 349 more attempts are needed. Set minutes in the cluster's profile to 71 to do all "
        "steps in one attempt."
    )
    assert said == f"{expected}\n"
    (line,) = survey(Store(ended.folder.path.parent))[0]
    assert line.note.endswith(expected)


def test_a_limit_before_the_first_step_names_minutes_too(ended):
    for _ in range(2):
        assert ended(137, JobState="TIMEOUT", TimeLimit="00:03:00")
    assert not ended(137, JobState="TIMEOUT", TimeLimit="00:03:00")
    hint = ended.folder.read_record().failure.hint
    assert hint == (
        "3 attempts ended at the time limit of 3 min, the last one before its first step. Set "
        "minutes in the cluster's profile to 6 or more."
    )


@pytest.mark.parametrize(
    ("facts", "steps"),
    [
        # Few attempts are the way of a long training.
        ({"TimeLimit": "1-00:00:00", "JobState": "TIMEOUT"}, (400, 800)),
        # Ended by something else.
        ({"TimeLimit": "1-00:00:00", "EndTime": "2126-01-01T00:00:00"}, (1, 2)),
        ({"TimeLimit": "00:01:00", "PreemptTime": "2026-01-01T00:00:00"}, (1, 2)),
    ],
)
def test_no_notice_where_the_limit_suffices(ended, facts, steps):
    for attempt, step in enumerate(steps, start=1):
        beat = Heartbeat(1, "h", attempt, 0.0, 60.0, "train", step, 1755)
        write_heartbeat(ended.folder.heartbeat, beat)
        assert ended(137, **facts)
    assert read_requeues(ended.folder).notice == ""


def test_a_blocked_run_is_left_alone_and_never_recorded_as_failed(ended):
    assert [ended(BLOCKED, step=0) for _ in range(4)] == [True, True, False, False]
    assert ended.folder.read_record() is None


@pytest.mark.parametrize("code", [125, 253])
def test_memory_that_ran_out_is_told_apart(ended, code):
    assert ended(code, step=4) is False
    record = ended.folder.read_record()
    assert record.failure.type == "OutOfMemory"
    assert "mem_gb" in record.failure.hint
