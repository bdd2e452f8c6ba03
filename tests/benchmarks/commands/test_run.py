"""Whole commands, with real worker processes: never twice the work, nothing lost."""

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from benchmarks.suites import MINI_ENTRIES
from pretrain.catalog import recipes

# Every default entry is measured, and some are pretrained before.
NUM_DEFAULT_RUNS = len(MINI_ENTRIES) + sum(entry in recipes() for entry in MINI_ENTRIES)
RUN = Path(__file__).resolve().parents[3] / "benchmarks" / "run.py"


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def training(run_py, at_least=2):
    return lambda: any(len(steps) >= at_least for steps in safely(run_py).values())


def safely(run_py):
    try:
        return run_py.steps()
    except (FileNotFoundError, ValueError, IndexError):
        return {}


def beats(run_py):
    return run_py.runs.glob("*/heartbeat.json")


def journal(run_py):
    (path,) = run_py.runs.glob("*/attempts.jsonl")
    return [json.loads(line)["outcome"] for line in path.read_text().splitlines()]


def test_the_default_suite_makes_a_row_an_entry_and_the_second_time_runs_nothing(run_py):
    first = run_py("--suite", "coco")
    assert first.returncode == 0, first.stderr
    table = first.stdout.split("coco v1")[1].split("records:")[0]
    assert all(len(re.findall(rf" {entry} ", table)) == 1 for entry in MINI_ENTRIES), table
    files = {path: path.stat().st_mtime_ns for path in run_py.runs.glob("*/record.json")}
    assert len(files) == NUM_DEFAULT_RUNS
    second = run_py("--suite", "coco")
    assert second.returncode == 0
    assert f"{NUM_DEFAULT_RUNS} done; nothing to run" in second.stdout
    assert "[1/" not in second.stdout
    assert second.stdout.split("coco v1")[1] == table
    assert {path: path.stat().st_mtime_ns for path in files} == files


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_where_it_stopped(run_py, number):
    arguments = ("--entries", "vit-nano")
    process = run_py.start(*arguments, STAND_IN_SLEEP="0.2")
    wait_for(training(run_py))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "python" in err
    assert "run.py --entries vit-nano" in err, "the command that goes on"
    assert "Traceback" not in out + err
    stopped_after = len(run_py.steps()["vit-nano"])
    assert stopped_after < 10
    assert journal(run_py) == ["stopped"]
    plan = run_py(*arguments, "--dry-run")
    assert "interrupted" in plan.stdout
    done = run_py(*arguments)
    assert done.returncode == 0
    assert run_py.steps()["vit-nano"] == list(range(10)), "a step was lost or done twice"
    assert journal(run_py) == ["stopped", "done"]
    assert run_py.record()["attempt"] == 2


def test_ctrl_c_reaches_a_worker_that_is_still_starting(run_py):
    process = run_py.start("--entries", "vit-nano", STAND_IN_SLEEP="0.2")
    wait_for(lambda: list(run_py.runs.glob("*/log.txt")))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert "Traceback" not in next(run_py.runs.glob("*/log.txt")).read_text()


def test_a_second_ctrl_c_ends_at_once(run_py):
    process = run_py.start("--entries", "vit-nano", STAND_IN_SLEEP="20")
    wait_for(lambda: list(run_py.runs.glob("*/work")))
    process.send_signal(signal.SIGINT)
    time.sleep(0.6)
    assert process.poll() is None, "the first Ctrl-C waits for the step"
    worker = json.loads(next(run_py.runs.glob("*/heartbeat.json")).read_text())["pid"]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)
    assert process.returncode == 130
    wait_for(lambda: not alive(worker), 5)


def alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_worker_whose_parent_was_killed_saves_and_leaves(run_py):
    process = run_py.start("--entries", "vit-nano", STAND_IN_SLEEP="0.4")
    wait_for(training(run_py))
    process.kill()
    process.communicate(timeout=10)
    wait_for(lambda: list(run_py.runs.glob("*/attempts.jsonl")), 10)
    assert journal(run_py) == ["stopped"]
    assert run_py("--entries", "vit-nano").returncode == 0
    assert run_py.steps()["vit-nano"] == list(range(10))


def test_a_killed_worker_is_lost_and_goes_on(run_py):
    done = run_py("--entries", "vit-nano", STAND_IN_FAIL="vit-nano=kill")
    assert done.returncode == 3
    assert "memory" in done.stderr
    assert not list(run_py.runs.glob("*/record.json"))
    again = run_py("--entries", "vit-nano")
    assert again.returncode == 0
    assert run_py.steps()["vit-nano"] == list(range(10))
    assert journal(run_py) == ["lost", "done"]


def test_one_failing_run_leaves_the_others_going(run_py):
    done = run_py("--suite", "coco", STAND_IN_FAIL="swin-nano=crash")
    assert done.returncode == 3
    assert "RuntimeError: shapes differ" in done.stdout.split("coco v1")[1], "the row says why"
    assert "Traceback" not in done.stdout + done.stderr
    assert set(run_py.steps()) == {"vit-nano", "swin-nano", "resnet-nano"}
    left = run_py("--suite", "coco", "--rerun", "missing")
    assert left.returncode == 3
    assert "--rerun failed" in left.stdout
    again = run_py("--suite", "coco")
    assert again.returncode == 0
    assert "1 to run" in again.stdout
    assert run_py.steps()["swin-nano"] == list(range(10))


@pytest.mark.parametrize(
    ("how", "code", "kind", "words"),
    [
        ("user", 4, "PreflightError", "The image 7.jpg is truncated."),
        ("crash", 3, "RuntimeError", "RuntimeError: shapes differ"),
        ("memory", 3, "RuntimeError", "out of memory"),
        ("exit", 3, "SystemExit", "SystemExit: 0"),
    ],
)
def test_why_a_run_failed_is_in_its_record(run_py, how, code, kind, words):
    done = run_py("--entries", "vit-nano", STAND_IN_FAIL=f"vit-nano={how}")
    assert done.returncode == code
    failure = run_py.record()["failure"]
    assert failure["type"] == kind
    assert words in failure["message"]
    assert failure["phase"] == "train"
    assert ("batch_size_per_device" in failure["hint"]) == (how == "memory")
    assert words in done.stderr


def test_a_result_that_is_no_number_is_no_result(run_py):
    done = run_py("--entries", "vit-nano", STAND_IN_FAIL="vit-nano=nan")
    assert done.returncode == 0
    metric = run_py.record()["metrics"]["APbox"]
    assert metric["value"] is None
    assert metric["reason"] == "the result was not a number"


def test_a_task_says_why_a_metric_has_no_value(run_py):
    reasons = []
    for environment in ({}, {"STAND_IN_UNMEASURED": "no attention"}):
        done = run_py("--entries", "vit-nano", "--rerun", "all", **environment)
        assert done.returncode == 0, done.stderr
        reasons.append(run_py.record()["metrics"]["APmask"]["reason"])
    assert reasons == ["no ground truth of this kind", "no attention"]


def test_two_processes_never_do_the_same_run(run_py):
    gate = run_py.folder / "gate"
    first = run_py.start("--entries", "vit-nano", STAND_IN_GATE=str(gate))
    wait_for(training(run_py))
    second = run_py("--entries", "vit-nano,swin-nano")
    assert second.returncode == 4
    assert "Another process" in second.stderr
    gate.touch()
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert run_py.steps() == {"vit-nano": list(range(10)), "swin-nano": list(range(10))}
    assert len(list(run_py.runs.glob("*/record.json"))) == 2


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(run_py):
    (run_py.folder / "file").write_text("")
    done = run_py("--out", "file")
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    done = run_py("--out", "/proc/nowhere")
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "[1/3]" not in done.stdout


@pytest.fixture
def small_disk(run_py):
    """Return a function that mounts a file system of that many MiB."""
    disk = run_py.folder / "disk"
    disk.mkdir()

    def mount(size):
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
            pytest.skip("mounting a small file system is not allowed here")
        return disk

    yield mount
    subprocess.run(["umount", "-q", str(disk)], check=False)


def test_a_full_disk_is_told_before_anything_runs(run_py, small_disk):
    small_disk(1)
    done = run_py("--out", "disk/runs")
    assert done.returncode == 4
    assert "the disk is full" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_disk_that_fills_up_costs_nothing_that_was_saved(run_py, small_disk):
    disk = small_disk(72)
    arguments = ("--entries", "vit-nano", "--out", "disk/runs")
    done = run_py(*arguments, STAND_IN_FAIL="vit-nano=fill")
    assert done.returncode == 4
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (fill,) = disk.glob("runs/*/work/fill.bin")
    fill.unlink()
    again = run_py(*arguments)
    assert again.returncode == 0, again.stderr
    steps = (fill.parent / "steps.txt").read_text().split()
    assert steps == [str(step) for step in range(10)]


def test_a_damaged_record_is_named_and_done_again(run_py):
    run_py("--entries", "vit-nano")
    (path,) = run_py.runs.glob("*/record.json")
    text = path.read_text()
    path.write_text(text.replace('"value":18.0', '"value":99.0'))
    board = run_py("leaderboard")
    assert "99.0" not in board.stdout
    assert "checksum" in board.stderr
    planned = run_py("--entries", "vit-nano", "--dry-run", COLUMNS="200")
    assert "its record is set aside: its checksum" in planned.stdout
    again = run_py("--entries", "vit-nano")
    assert again.returncode == 0
    (kept,) = run_py.runs.glob("*/record-*.json")
    assert '"value":99.0' in kept.read_text()
    assert run_py.record()["metrics"]["APbox"]["value"] == 18.0


def test_a_record_of_another_version_stays_as_it_is(run_py):
    run_py("--entries", "vit-nano")
    (path,) = run_py.runs.glob("*/record.json")
    text = path.read_text().replace("backbench.record/1", "backbench.record/2")
    path.write_text(text)
    again = run_py("--entries", "vit-nano,swin-nano", COLUMNS="300")
    assert "another version of this program" in again.stdout
    assert "backbench.record/2" in again.stderr
    assert path.read_text() == text
    assert len(list(run_py.runs.glob("*/record.json"))) == 2, "the other run was stopped"
    assert run_py("--entries", "vit-nano", "--rerun", "stale").returncode == 0
    (aside,) = path.parent.glob("record-*.json")
    assert aside.read_text() == text


def test_status_says_where_every_run_stands(run_py):
    gate = run_py.folder / "gate"
    process = run_py.start(
        "--entries",
        "vit-nano,swin-nano,resnet-nano",
        STAND_IN_FAIL="swin-nano=crash",
        STAND_IN_GATE=str(gate),
    )
    wait_for(training(run_py))
    wait_for(lambda: any('"step":3' in b.read_text() for b in beats(run_py)))
    states = {s["entry"]: s for s in json.loads(run_py("status", "--json").stdout)}
    assert states["vit-nano"]["state"] == "running"
    assert "loss 1.000" in states["vit-nano"]["note"]
    gate.touch()
    process.communicate(timeout=60)
    text = run_py("status").stdout
    assert "2 done, 1 failed" in text or "1 failed, 2 done" in text


def test_json_alone_is_on_stdout_while_runs_go(run_py):
    done = run_py("--json", "--entries", "vit-nano,swin-nano", STAND_IN_FAIL="swin-nano=user")
    content = json.loads(done.stdout)
    assert content["exit_code"] == done.returncode == 3
    assert [cell["state"] for cell in content["cells"]] == ["done", "failed"]
    assert "truncated" in content["cells"][1]["note"]


def test_ctrl_c_typed_at_a_terminal_saves_once(run_py):
    """The whole foreground group gets the signal, as with a person at the keyboard."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(RUN), "--entries", "vit-nano"],
        cwd=run_py.folder,
        env=run_py.environment(STAND_IN_SLEEP="0.3", TERM="xterm", COLUMNS="100"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    shown = bytearray()
    reader = threading.Thread(target=read_all, args=(ours, shown))
    reader.start()
    wait_for(training(run_py))
    os.write(ours, b"\x03")
    assert process.wait(60) == 130
    reader.join(10)
    os.close(ours)
    text = shown.decode(errors="replace")
    assert "\r" in text
    assert "train " in text, "the line that lives"
    assert "Stopping once the state is saved" in text
    assert "Traceback" not in text
    assert journal(run_py) == ["stopped"]
    assert run_py("--entries", "vit-nano").returncode == 0
    assert run_py.steps()["vit-nano"] == list(range(10))


def read_all(descriptor, into):
    # Linux reports the end of a terminal as an input/output error.
    with contextlib.suppress(OSError):
        while chunk := os.read(descriptor, 4096):
            into += chunk
