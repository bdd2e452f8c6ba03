"""Whole commands: which runs are the same, which stale, which not the planned ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.store.folders import Store


def test_rerun_all_starts_from_nothing_and_keeps_the_old_record_aside(run_py):
    run_py("--entries", "vit-nano")
    done = run_py("--entries", "vit-nano", "--rerun", "all")
    assert done.returncode == 0
    assert run_py.steps()["vit-nano"] == list(range(10))
    assert run_py.record()["attempt"] == 2
    assert list(run_py.runs.glob("*/record-1.json"))


def test_new_rules_make_old_results_stale(run_py):
    run_py("--entries", "vit-nano")
    newer = run_py("--entries", "vit-nano", "--dry-run", STAND_IN_VERSION="2")
    assert "1 stale; nothing to run" in newer.stdout
    assert "version 1 of coco" in newer.stdout
    recipe = run_py("--entries", "vit-nano", "--dry-run", STAND_IN_LR="0.5")
    assert "1 stale" in recipe.stdout
    assert run_py("--entries", "vit-nano", "--rerun", "stale", STAND_IN_VERSION="2").returncode == 0
    tables = json.loads(run_py("leaderboard", "--json").stdout)
    assert sorted(table["key"]["task_version"] for table in tables) == [1, 2]


def test_overrides_are_kept_apart(run_py):
    run_py("--entries", "vit-nano")
    done = run_py("--entries", "vit-nano", "--set", "optim.lr=0.3")
    assert done.returncode == 0
    tables = json.loads(run_py("leaderboard", "--json").stdout)
    protocols = sorted(table["key"]["protocol"] for table in tables)
    assert protocols[0] == "stand-in/v1"
    assert protocols[1].startswith("stand-in/v1+custom:")
    same = run_py("--entries", "vit-nano", "--set", "optim.lr=0.1", "--dry-run")
    assert "1 done; nothing to run" in same.stdout, "an override that changes nothing is none"


def test_what_changes_no_result_keeps_run_and_protocol(run_py):
    run_py("--entries", "vit-nano")
    before = run_py.record()
    watched = ("--entries", "vit-nano", "--set", "schedule.watch=3")
    plan = run_py(*watched, "--dry-run")
    assert "1 done; nothing to run" in plan.stdout
    assert "done without --set schedule.watch=3" in plan.stdout
    assert "--rerun all" in plan.stdout
    assert run_py(*watched, "--rerun", "all").returncode == 0
    after = run_py.record()
    assert (after["run_id"], after["labels"]) == (before["run_id"], before["labels"])
    assert (before["details"]["watch"], after["details"]["watch"]) == (0, 3)
    assert "done without" not in run_py(*watched, "--dry-run").stdout
    unchanged = run_py("--entries", "vit-nano", "--set", "schedule.watch=0", "--dry-run")
    assert "done without" not in unchanged.stdout


def test_the_same_run_has_the_same_place_whatever_the_path_or_evaluator(run_py):
    run_py("--entries", "vit-nano")
    (run_py.runs).rename(run_py.folder / "moved")
    done = run_py("--entries", "random:vit-nano", "--out", "moved", "--evaluator", "two")
    assert "1 done; nothing to run" in done.stdout


def test_what_a_plugin_measured_before_it_was_edited_is_stale(run_py, tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    text = (
        "from dataclasses import replace\n"
        "from backbones.catalog import get_spec\n"
        "SPEC = replace(get_spec('vit-nano'), name='mine', source='a test, 2nd')\n"
    )
    again = ("--entries", "mine", "--plugins", str(plugins))
    (plugins / "mine.py").write_text(text)
    assert "1 to run" in run_py(*again, "--dry-run").stdout
    assert run_py(*again).returncode == 0
    assert "nothing to run" in run_py(*again).stdout
    (plugins / "mine.py").write_text(text.replace("2nd", "3rd"))
    assert "done under another file of mine" in run_py(*again).stdout
    assert run_py(*again, "--rerun", "stale").returncode == 0
    assert len(list(run_py.runs.glob("*/record.json"))) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data_fingerprint": "0" * 64}, "The mini data changed since the plan"),
        ({"task_version": 7}, "The code changed since the plan"),
        ({"weights_sha256": "1" * 64}, "vit-nano changed since the plan"),
        ({"backbone_sha256": "1" * 64}, "'vit-nano' changed since the plan"),
        ({"recipe": {"protocol": "stand-in/v1"}}, "fields of Config changed"),
    ],
)
def test_a_worker_refuses_a_run_that_is_not_the_planned_one(
    run_py, make_request, make_spec, changes, words
):
    spec = make_spec(**{"data_fingerprint": "facts-of-mini", **changes})
    folder = Store(run_py.runs).prepare(make_request(spec))
    environment = run_py.environment()
    environment["PYTHONPATH"] += os.pathsep + str(Path(__file__).resolve().parents[3])
    command = [sys.executable, "-P", "-m", "benchmarks.work.worker", str(folder.path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert words in run_py.record()["failure"]["message"]
