"""Several runs at a time on one machine, with real worker processes."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from backbones.base.cores import CORES, usable_cores
from backbones.base.errors import PreflightError
from benchmarks.local.resources import divide
from benchmarks.store.environment import worker_environment
from benchmarks.work.follower import lost_a_process

FOUR = ("--entries", "vit-nano,swin-nano,resnet-nano,mae-nano", "--executor", "local")


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def records(run_py):
    found = [json.loads(path.read_text()) for path in run_py.runs.glob("*/record.json")]
    return {(r["spec"]["task"], r["labels"]["entry"]): r for r in found}


def beats(run_py):
    return [json.loads(path.read_text()) for path in run_py.runs.glob("*/heartbeat.json")]


def outcomes(run_py):
    journals = run_py.runs.glob("*/attempts.jsonl")
    return sorted(tuple(json.loads(t)["outcome"] for t in j.read_text().splitlines())
                  for j in journals)  # fmt: skip


def steps(run_py):
    return sorted(len(p.read_text().split()) for p in run_py.runs.glob("*/work/steps.txt"))


def test_two_at_a_time_meet_at_a_gate_that_one_at_a_time_would_never_open(run_py):
    gate = run_py.folder / "gate"
    process = run_py.start(*FOUR, "--jobs", "2", STAND_IN_GATE=str(gate))
    wait_for(lambda: sum(beat["step"] == 3 for beat in beats(run_py)) == 2)
    assert len(beats(run_py)) == 2, "a third run started without a allocation"
    gate.touch()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(records(run_py)) == 5
    assert "[1/5] coco vit-nano: training vit-nano from step 0" in out, "who speaks is said"


def test_what_needs_weights_waits_for_them_and_the_others_do_not(run_py):
    done = run_py("--entries", "mae-nano,vit-nano", "--executor", "local", "--jobs", "3",
                  STAND_IN_SLEEP="0.15")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = records(run_py)
    assert found["coco", "mae-nano"]["created"] >= found["pretrain", "mae-nano"]["finished"]
    assert found["coco", "vit-nano"]["created"] < found["pretrain", "mae-nano"]["finished"]


def test_identity_and_results_do_not_depend_on_the_executor(run_py):
    run_py(*FOUR, "--jobs", "4")
    again = run_py(*FOUR[:2])
    assert "5 done; nothing to run" in again.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_all_save_when_asked_to_stop_and_go_on_later(run_py, number):
    process = run_py.start(*FOUR, "--jobs", "2", STAND_IN_SLEEP="0.2")
    wait_for(lambda: sum(beat["step"] >= 2 for beat in beats(run_py)) == 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert out.count("Stopping once the state is saved") == 1
    assert outcomes(run_py) == [("stopped",), ("stopped",)]
    assert run_py(*FOUR, "--jobs", "2").returncode == 0
    assert steps(run_py) == [10] * 5, "a step was lost or done twice"


def test_a_second_ctrl_c_ends_all_at_once(run_py):
    process = run_py.start(*FOUR, "--jobs", "2", STAND_IN_SLEEP="20")
    wait_for(lambda: len(list(run_py.runs.glob("*/work"))) == 2)
    workers = [beat["pid"] for beat in beats(run_py)]
    process.send_signal(signal.SIGINT)
    time.sleep(0.6)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)
    assert process.returncode == 130
    wait_for(lambda: not any(Path(f"/proc/{pid}/status").exists() for pid in workers), 5)


def test_a_worker_that_dies_leaves_the_others_going(run_py):
    done = run_py(*FOUR, "--jobs", "2", STAND_IN_FAIL="swin-nano=kill")
    assert done.returncode == 3
    assert "was killed" in done.stderr
    assert {entry for _, entry in records(run_py)} == {"vit-nano", "resnet-nano", "mae-nano"}
    assert run_py(*FOUR, "--jobs", "2").returncode == 0
    assert sorted(outcomes(run_py))[-1] == ("lost", "done")


TOGETHER = ("--entries", "vit-nano", "--executor", "local", "--processes", "2")


def second(run_py):
    """Return the process that follows, once it does."""
    wait_for(lambda: [path for path in run_py.runs.glob("*/work/rank-1.pid") if path.read_text()])
    (path,) = run_py.runs.glob("*/work/rank-1.pid")
    return int(path.read_text())


def test_two_processes_do_one_run(run_py):
    done = run_py(*TOGETHER)
    assert done.returncode == 0, done.stderr
    (record,) = records(run_py).values()
    assert record["environment"]["processes"] == 2
    assert "1 done; nothing to run" in run_py("--entries", "vit-nano").stdout, "another identity"


def test_processes_of_a_run_stop_together(run_py):
    process = run_py.start(*TOGETHER, STAND_IN_HOLD="1")
    pid = second(run_py)
    wait_for(lambda: any(beat["step"] >= 2 for beat in beats(run_py)))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not Path(f"/proc/{pid}").exists()
    assert run_py(*TOGETHER).returncode == 0
    assert outcomes(run_py) == [("stopped", "done")]


def test_a_process_that_dies_takes_the_others_of_its_run_along(run_py):
    process = run_py.start(*TOGETHER, STAND_IN_HOLD="1")
    pid = second(run_py)
    wait_for(lambda: any(beat["step"] >= 2 for beat in beats(run_py)))
    (leader,) = [beat["pid"] for beat in beats(run_py)]
    os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "its process 1 was killed" in err
    assert "log-1.txt" in err
    assert not Path(f"/proc/{leader}").exists()
    assert run_py(*TOGETHER).returncode == 0
    assert outcomes(run_py) == [("lost", "done")]


def test_memory_that_runs_out_on_another_process_is_recorded_with_the_hint(run_py):
    done = run_py(*TOGETHER, STAND_IN_FOLLOWER="memory", STAND_IN_HOLD="1")
    assert done.returncode == 3
    (record,) = records(run_py).values()
    failure = record["failure"]
    assert (
        failure["message"] == "Process 1: RuntimeError: CUDA out of memory. Tried to allocate 2 GiB"
    )
    assert "schedule.batch_size_per_device" in failure["hint"]
    assert outcomes(run_py) == [("lost",)]
    assert run_py(*TOGETHER, "--rerun", "failed").returncode == 0


def test_what_the_libraries_say_of_a_lost_process_is_no_failure(monkeypatch):
    gloo = RuntimeError(
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:6071: "
        "Connection reset by peer."
    )
    nccl = type("DistBackendError", (RuntimeError,), {})("NCCL error: remote process exited")
    for error in (gloo, nccl):
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert lost_a_process(error)
        monkeypatch.delenv("WORLD_SIZE")
        assert not lost_a_process(error)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not lost_a_process(RuntimeError("shapes differ"))


def test_a_mistake_that_all_processes_meet_is_told_in_its_own_words(run_py):
    done = run_py(*TOGETHER, STAND_IN_FAIL="vit-nano=share")
    assert done.returncode == 4
    assert "failed: The batch cannot be shared out." in done.stdout
    assert "ended with code" not in done.stdout + done.stderr
    (record,) = records(run_py).values()
    assert record["failure"]["message"] == "The batch cannot be shared out."


def test_a_batch_that_processes_cannot_share_out_is_refused_at_once(run_py):
    done = run_py(*TOGETHER[:-1], "3")
    assert done.returncode == 2
    assert "coco, recipe mini: The global batch of 4 images cannot be shared out" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(run_py.runs.glob("*/run.json")), "something was prepared"


def test_a_run_that_cannot_start_ends_its_other_processes(run_py):
    process = run_py.start("--entries", "vit-nano", STAND_IN_HOLD="1")
    wait_for(lambda: any(beat["step"] >= 2 for beat in beats(run_py)))
    busy = run_py(*TOGETHER)
    assert busy.returncode == 4
    assert "is doing this run" in busy.stderr
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setattr("benchmarks.local.resources.usable_cores", lambda: 12)
    monkeypatch.setattr("benchmarks.local.resources.memory_gib", lambda: 40.0)
    assert [(allocation.cores, allocation.gpus) for allocation in divide(9, 2)] == [
        (6, None),
        (6, None),
    ]
    assert [(allocation.cores, allocation.processes) for allocation in divide(9, 2, 3)] == [
        (2, 3),
        (2, 3),
    ]
    assert divide(9, 99)[0].cores == 1
    # Nobody named a number: 40 GiB have room for ten runs, or for three of three processes.
    assert [len(divide(runs)) for runs in (1, 9, 99)] == [1, 9, 10]
    assert [(allocation.cores, allocation.processes) for allocation in divide(99, None, 3)] == [
        (1, 3)
    ] * 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert len(divide(99)) == 3, "threads that the user chose do not fight for cores"
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("benchmarks.local.resources.memory_gib", lambda: 1.0)
    assert [allocation.cores for allocation in divide(99)] == [12]
    monkeypatch.setattr("backbones.base.cores._machine_cores", lambda: 12)
    environment = divide(9, 2)[1].environment()
    assert environment["OMP_NUM_THREADS"] == "5", "six cores, one of them for loading"
    assert worker_environment({CORES: "1"})["OMP_NUM_THREADS"] == "1"
    assert worker_environment({CORES: "99"})["OMP_NUM_THREADS"] == "9", "no more than there are"
    assert worker_environment({CORES: "2", "OMP_NUM_THREADS": "7"})["OMP_NUM_THREADS"] == "7"


def test_every_run_gets_a_gpu_of_its_own(run_py):
    """The devices are names only; what matters is that no two runs share one."""
    gate = run_py.folder / "gate"
    process = run_py.start(*FOUR, STAND_IN_GATE=str(gate), CUDA_VISIBLE_DEVICES="4,GPU-7")
    wait_for(lambda: len(beats(run_py)) == 2)
    seen = [
        Path(f"/proc/{beat['pid']}/environ").read_bytes().split(b"\0") for beat in beats(run_py)
    ]
    assert {v for e in seen for v in e if v.startswith(b"CUDA_VIS")} == {
        b"CUDA_VISIBLE_DEVICES=4", b"CUDA_VISIBLE_DEVICES=GPU-7"
    }  # fmt: skip
    gate.touch()
    process.communicate(timeout=60)
    assert process.returncode == 0
    refused = run_py(*FOUR, "--jobs", "3", "--rerun", "all", CUDA_VISIBLE_DEVICES="4,GPU-7")
    assert refused.returncode == 4
    assert "there are 2 GPUs" in refused.stderr


def test_gpus_are_found_without_being_named(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 0\necho 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert subprocess.run(["nvidia-smi"], check=False).returncode == 0
    assert [allocation.gpus for allocation in divide(9)] == ["0", "1"]
    assert [allocation.gpus for allocation in divide(9, None, 2)] == ["0,1"]
    with pytest.raises(PreflightError, match="--processes 3: there are 2 GPUs"):
        divide(9, None, 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert {allocation.gpus for allocation in divide(9)} == {None}


@pytest.mark.skipif(usable_cores() < 2, reason="one core cannot be shared out")
def test_a_run_that_others_wait_for_has_all_cores(run_py):
    """Its pretraining and itself are two runs, but never at a time."""
    gate = run_py.folder / "gate"
    process = run_py.start(
        "--entries", "mae-nano", "--executor", "local", STAND_IN_GATE=str(gate)
    )  # fmt: skip
    wait_for(lambda: beats(run_py))
    environment = Path(f"/proc/{beats(run_py)[0]['pid']}/environ").read_bytes().split(b"\0")
    assert f"{CORES}={usable_cores()}".encode() in environment
    gate.touch()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_each_gpu_gets_a_run_and_the_plan_says_which_stay_idle(run_py):
    def plan(*arguments, gpus="4,GPU-7"):
        done = run_py("--dry-run", *arguments, CUDA_VISIBLE_DEVICES=gpus)
        return next(text for text in done.stdout.splitlines() if "GPU" in text and ":" in text)

    assert plan() == "2 of 2 GPUs: 2 runs at a time"
    assert plan("--entries", "vit-nano") == (
        "1 of 2 GPUs: one run at a time; one stays idle, --executor local --processes 2 uses all"
    )
    inline = plan("--executor", "inline")
    assert inline == ("1 of 2 GPUs: one run at a time; one stays idle, --executor local uses all")
    both = plan("--entries", "vit-nano", "--executor", "local", "--processes", "2")
    assert both == "2 of 2 GPUs: one run at a time, 2 each"
    assert plan(gpus="4") == "1 of 1 GPU: one run at a time"


def test_jobs_without_local_is_a_mistake(run_py):
    done = run_py("--jobs", "2", "--executor", "inline")
    assert done.returncode == 2
    assert done.stderr == "--jobs goes with --executor local, not with inline.\n"
    pretraining = run_py(
        "pretrain", "mae-nano", "--seeds", "2", "--executor", "local", "--jobs", "2"
    )
    assert pretraining.returncode == 0, pretraining.stderr
