import argparse
import io
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from benchmarks import cli, output
from benchmarks.options import COMMANDS, RunOptions
from benchmarks.plan.plan import Rerun

ROOT = Path(__file__).resolve().parents[3]
RUN = ROOT / "benchmarks" / "run.py"


def test_the_command_line_is_frozen():
    """Every flag with what it takes, its default and its choices, a line each."""
    (commands,) = (
        action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    found = [
        " ".join([name, *typed(action)])
        for name, command in commands.choices.items()
        for action in sorted(command._actions, key=lambda action: action.option_strings)
        if not isinstance(action, argparse._HelpAction)
    ]
    assert found == Path(__file__).with_name("command_line.txt").read_text().splitlines()


def typed(action):
    """Yield the words that describe a flag."""
    yield from action.option_strings or [action.dest]
    if action.metavar or action.choices:
        yield action.metavar or "|".join(action.choices)
    if action.nargs not in (None, 0):
        yield f"nargs={action.nargs}"
    if isinstance(action, argparse._AppendAction):
        yield "repeatable"
    # Before Python 3.13, argparse calls arguments required that may be absent.
    yield "required" if action.required and action.nargs != "*" else f"default={action.default!r}"


def test_every_command_takes_its_own_options_and_every_flag_has_a_help():
    for name, options in COMMANDS.items():
        main = import_module(f"benchmarks.commands.{name}").main
        assert main.__annotations__ == {"options": options, "return": int}
        assert options.__doc__, name
        assert all(item.metadata["given"]["help"] for item in fields(options) if item.metadata)


def test_choices_of_rerun_are_those_of_a_plan():
    (rerun,) = (item for item in fields(RunOptions) if item.name == "rerun")
    assert rerun.metadata["given"]["choices"] == get_args(Rerun)


def run_without_torch(*arguments, cwd):
    program = (
        "import runpy, sys\n"
        f"sys.argv = {[str(RUN), *map(str, arguments)]!r}\n"
        "code = 0\n"
        "try:\n"
        f"    runpy.run_path({str(RUN)!r}, run_name='__main__')\n"
        "except SystemExit as error:\n"
        "    code = error.code or 0\n"
        "heavy = {'torch', 'detectron2', 'timm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["--suite", "coco", "--dry-run"],
        ["--dry-run", "--json", "--recipe", "vitdet-25ep", "--entries", "vit-b16,random:swin-t"],
        ["--suite", "coco", "--dry-run", "--entries", "mae-nano,pretrain:simmim-nano?seed=1"],
        ["pretrain", "mae-nano", "--dry-run", "--json", "--seeds", "2"],
        ["list"],
        ["status", "--out", "."],
        ["leaderboard", "--out", "."],
    ],
    ids=" ".join,
)
def test_light_commands_import_no_torch(arguments, tmp_path, monkeypatch):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    done = run_without_torch(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_dry_run_leaves_nothing_behind(run_py):
    done = run_py("--dry-run", "--entries", "vit-nano,mae-nano")
    assert done.returncode == 0, done.stderr
    assert "3 missing; 3 to run" in done.stdout
    assert "unknown until measured" in done.stdout
    assert list(run_py.folder.iterdir()) == []


def test_a_dry_run_names_once_where_it_looked_for_data(run_py):
    done = run_py("--suite", "all", "--entries", "mae-nano", "--dry-run")
    places = "--data coco, --data imagenet, --data images, $DETECTRON2_DATASETS nor $IMAGENET_DIR"
    assert f"data: neither {places} is given" in done.stdout


def test_nothing_to_do_again_is_said_plainly(run_py):
    run_py.runs.mkdir()
    assert run_py("retry", "--dry-run").stdout == "nothing to run\n"


def test_bare_form_means_run(run_py):
    bare, named = run_py("--suite", "coco", "--dry-run"), run_py("run", "--dry-run")
    assert bare.stdout == named.stdout


@pytest.mark.parametrize(
    ("text", "seeds"), [("1", (0,)), ("3", (0, 1, 2)), ("5,7", (5, 7)), ("5,", (5,)), ("2,2", (2,))]
)
def test_seeds_are_a_count_or_a_list(text, seeds):
    assert cli.parser().parse_args(["run", "--seeds", text]).seeds == seeds


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5"])
def test_bad_seeds_are_usage(text, run_py):
    done = run_py("--seeds", text)
    assert done.returncode == 2
    assert "--seeds" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--suite", "cocoa"], 2, 'Did you mean "coco"'),
        (["--tasks", "knnn"], 2, 'Did you mean "knn"'),
        (["--tasks", "coco,"], 2, 'Unknown task ""'),
        (
            ["--suite", "coco", "--tasks", "knn"],
            2,
            "the suite coco has no knn; coco has coco, regions; im",
        ),
        (["--tasks", "attention,knn"], 2, "no one suite has all of these"),
        (["--entries", "vit-nan"], 2, 'Did you mean "vit-nano"'),
        (["--entries", "vit-nano,,swin-nano"], 2, "empty entry"),
        (["--entries", "http://x"], 2, "unknown kind 'http'"),
        (["--entries", "ckpt:absent.pth?arch=vit-b16&format=mae"], 4, "absent.pth"),
        (["--recipe", "minni"], 2, 'Did you mean "mini"'),
        (["--set", "optim.lrr=1"], 2, 'Did you mean "optim.lr"'),
        (["--set", "optim.lr"], 2, "KEY=VALUE"),
        (["--set", "optim.lr=nan"], 2, "optim.lr: NaN is not supported; use a finite number."),
        (["--set", "optim.lr=fast"], 2, 'optim.lr: "fast" is not supported; use a finite number.'),
        (["--set", "protocol=mine"], 2, "unknown key"),
        (["--data", "coco"], 2, "KIND=DIR"),
        (["--data", "voc=/x"], 4, "is used by no task that was asked for"),
        (["--data", "coco=/absent/folder"], 4, "/absent/folder"),
        (["--evaluator", "three"], 2, "one, two"),
        (["--plugins", "/absent/plugins"], 2, "/absent/plugins"),
        (["cancel", "--out", "."], 2, "--all"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_request_is_one_sentence(arguments, code, words, run_py):
    done = run_py(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert not list(run_py.runs.glob("*/run.json")), "something was written"


def test_a_wrong_environment_is_one_sentence(run_py):
    done = run_py("--dry-run", DETECTRON2_DATASETS="/absent/datasets")
    assert done.returncode == 4
    assert "$DETECTRON2_DATASETS" in done.stderr
    assert done.stderr.count("\n") == 1


def test_real_data_without_entries_asks_for_them(run_py):
    (run_py.folder / "real").mkdir()
    done = run_py("--data", "coco=real", "--dry-run")
    assert done.returncode == 2
    assert "--entries" in done.stderr


def test_an_internal_error_writes_its_trace_to_a_file(tmp_path, monkeypatch, capsys):
    def burst(name):
        raise RuntimeError("a mistake of ours\x1b[31m")

    monkeypatch.setattr(cli, "import_module", burst)
    monkeypatch.setattr(cli.tempfile, "tempdir", str(tmp_path))
    assert cli.main(["status"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "\x1b" not in message
    file = re.search(r"\S+backbench-error-\S+\.txt", message).group()
    assert "Traceback" in Path(file).read_text()


def test_works_from_any_folder_that_hides_the_standard_library(run_py):
    for name in ("random.py", "detection.py", "benchmarks.py", "json.py"):
        (run_py.folder / name).write_text("raise SystemExit('the wrong module was imported')\n")
    done = run_py("--entries", "vit-nano")
    assert done.returncode == 0, done.stderr
    assert "APbox 18.0" in done.stdout


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["latin-1", "ascii", "C"],
)
def test_an_encoding_without_our_signs_gets_plainer_ones(environment, run_py):
    run_py.runs.mkdir()
    for command in (["status"], ["list"], ["--entries", "vit-nano", "--dry-run"]):
        done = run_py(*command, **environment)
        assert done.returncode == 0, done.stderr
    assert "\n------" in done.stdout
    wrong = run_py("--tasks", "数", **environment)
    assert wrong.returncode == 2
    assert "Unknown task" in wrong.stderr


@pytest.mark.parametrize(
    "command",
    [["leaderboard"], ["watch"], ["--entries", "vit-nano", "--dry-run"], ["--entries", "vit-nano"]],
)
def test_output_on_a_full_disk_is_one_sentence(command, run_py):
    run_py.runs.mkdir()
    with Path("/dev/full").open("w") as full:
        process = run_py.start(*command, stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 4, err
    assert err.startswith("Cannot write standard output: the disk is full. ")
    assert err.count("\n") == 1


def test_a_full_disk_behind_standard_error_changes_no_exit_code(run_py):
    with Path("/dev/full").open("w") as full:
        process = run_py.start("--tasks", "knnn", stderr=full)
        process.communicate(timeout=60)
    assert process.returncode == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stop_nothing(closed, run_py):
    line = shlex.join([sys.executable, str(RUN), "--entries", "vit-nano"])
    environment = run_py.environment()
    done = subprocess.run(["sh", "-c", f"{line} {closed}"], cwd=run_py.folder, env=environment,
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert run_py.record()["status"] == "done"


@pytest.mark.parametrize(
    ("last", "environment"),
    [("state", {}), ("training", {}), ("training", {"FORCE_COLOR": "1"})],
    ids=["plan", "lines", "living lines"],
)
def test_a_run_outlasts_who_reads_of_it(last, environment, run_py):
    gate = run_py.folder / "gate"
    process = run_py.start("--entries", "vit-nano", STAND_IN_GATE=str(gate), **environment)
    while last not in process.stdout.readline():
        pass
    process.stdout.close()
    gate.touch()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert run_py.record()["status"] == "done"
    assert run_py.steps() == {"vit-nano": list(range(10))}


def test_an_interval_stays_one_in_plainer_signs():
    output.prepare()
    assert "31.6 ±3.8 …".encode("ascii", "plain") == b"31.6 +-3.8 ."


def test_json_keeps_names_that_the_encoding_lacks(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    output.document({"entry": "größe"})
    assert json.loads(stream.buffer.getvalue()) == {"entry": "größe"}


def test_json_is_one_document_on_stdout(run_py):
    done = run_py("--json", "--entries", "vit-nano")
    content = json.loads(done.stdout)
    assert content["exit_code"] == 0
    (cell,) = content["cells"]
    assert cell["state"] == "done"
    assert cell["metrics"]["APbox"] == 18.0
    (table,) = content["leaderboard"]
    assert table["rows"][0]["values"]["APbox"]["mean"] == 18.0


def test_a_worker_outlasts_signs_that_its_encoding_lacks(tmp_path):
    program = "from benchmarks.work.worker import claim_stdout as c; c().write('f\\xfcnf')"
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env={**os.environ, **plain}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == b"f?nf"
    assert not done.stderr
