"""Trackers that are told how runs go; whatever they do, no run fails or waits for them."""

import json
import signal
import time

import pytest

from benchmarks.slurm.sbatch import plain_text
from benchmarks.store.folders import Store
from benchmarks.work.tracking import TRACK

WANDB = """
import json, os, time
BAD = os.environ.get("TRACKER_BAD", "")
def fail(where):
    if BAD == where:
        raise (SystemExit if where == "end" else RuntimeError)("no network\\nand more")
    if BAD == "hang" and where == "log":
        time.sleep(600)
def tell(*what):
    with open("told.txt", "a") as file:
        file.write(json.dumps(what) + "\\n")
class Summary:
    def update(self, values): fail("end"); tell("summary", values)
class Run:
    summary = Summary()
    def define_metric(self, names, step_metric): tell("axis", names, step_metric)
    def log(self, values): fail("log"); tell("log", values)
    def finish(self): tell("finish")
def init(**facts):
    fail("init"); tell("init", facts); return Run()
fail("import")
"""
MLFLOW = """
from types import SimpleNamespace
import json
def tell(*what):
    with open("told.txt", "a") as file:
        file.write(json.dumps(what) + "\\n")
def set_experiment(name): tell("experiment", name)
def start_run(run_id, run_name):
    tell("start", run_id, run_name)
    return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "abc"))
def log_params(values): tell("params", values)
def log_metrics(values, step=None): tell("metrics", values, step)
def end_run(): tell("end")
"""
ONE = ("--entries", "vit-nano")


@pytest.fixture
def track(run_py):
    """Return a function that runs with a tracker's stand-in installed."""
    place = run_py.folder / "site"
    place.mkdir()
    (place / "wandb.py").write_text(WANDB)
    (place / "mlflow.py").write_text(MLFLOW)
    path = f"{run_py.environment()['PYTHONPATH']}:{place}"

    def run(name, begin=run_py, **environment):
        return begin(*ONE, "--track", name, PYTHONPATH=path, **environment)

    return run


def told(run_py):
    return [json.loads(line) for line in (run_py.folder / "told.txt").read_text().splitlines()]


def test_wandb_hears_of_steps_and_results(run_py, track):
    assert track("wandb").returncode == 0
    begin, *steps, summary, finish = told(run_py)
    (request,) = run_py.runs.glob("*/run.json")
    assert begin[1]["id"] == request.parent.name, "a requeued run stays one"
    assert begin[1]["resume"] == "allow"
    values = {"train/loss": 1.0, "train/images_per_second": 8.0, "train/lr": 0.1}
    assert ["axis", "train/*", "train/step"] in steps
    assert steps[-1] == ["log", {**values, "train/step": 10}]
    assert summary == ["summary", {"APbox": 18.0, "AP50box": 36.0}]
    assert finish == ["finish"]


def test_mlflow_goes_on_in_the_same_run(run_py, track):
    assert track("mlflow", STAND_IN_FAIL="vit-nano=crash").returncode == 3
    assert ["start", None, "coco vit-nano seed 0"] in told(run_py)
    (run_py.folder / "told.txt").unlink()
    assert track("mlflow").returncode == 0
    assert ["start", "abc", "coco vit-nano seed 0"] in told(run_py)
    assert ["metrics", {"APbox": 18.0, "AP50box": 36.0}, None] in told(run_py)
    assert told(run_py)[-1] == ["end"]


@pytest.mark.parametrize("where", ["import", "init", "log", "end"])
def test_a_tracker_that_fails_fails_no_run(run_py, track, where):
    done = track("wandb", TRACKER_BAD=where)
    assert done.returncode == 0, done.stderr
    kind = "SystemExit" if where == "end" else "RuntimeError"
    said = f"Tracking with wandb ended ({kind}: no network); the run goes on."
    (log,) = run_py.runs.glob("*/log.txt")
    assert said in log.read_text()
    (record,) = run_py.runs.glob("*/record.json")
    assert json.loads(record.read_text())["status"] == "done"


def test_a_tracker_that_hangs_is_left_behind_when_a_run_has_to_leave(run_py, track):
    process = track("wandb", begin=run_py.start, TRACKER_BAD="hang", STAND_IN_HOLD="1")
    end = time.monotonic() + 60
    while not any('"step":2' in path.read_text() for path in run_py.runs.glob("*/heartbeat.json")):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    (log,) = run_py.runs.glob("*/log.txt")
    assert "wandb does not answer" in log.read_text()


def test_a_tracker_that_is_not_installed_is_told_before_anything_runs(run_py):
    done = run_py(*ONE, "--track", "mlflow", PATH="/nowhere")
    assert done.returncode == 4
    assert done.stderr == "--track mlflow: it is not installed; pip install mlflow.\n"
    assert not list(run_py.runs.glob("*/work"))


def test_scripts_pass_the_choice_on(tmp_path, monkeypatch, make_request):
    assert TRACK not in plain_text(Store(tmp_path), [make_request()], tmp_path)
    monkeypatch.setenv(TRACK, "wandb")
    assert f"export {TRACK}=wandb" in plain_text(Store(tmp_path), [make_request()], tmp_path)
