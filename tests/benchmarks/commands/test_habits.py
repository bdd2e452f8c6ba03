"""What people type out of habit is answered with what to type here; nothing starts."""

from operator import attrgetter

import pytest

from benchmarks import cli, habits
from benchmarks.options import COMMANDS
from benchmarks.suites import get_measurement


def said(capsys, *arguments):
    """Return the exit code and the sentence that a command line is answered with."""
    code = cli.main(arguments)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    return code, shown.err.rstrip("\n")


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("--seed 1", "Use --seeds 1, (with the comma) for seed 1 only; --seeds 3 runs seeds 0, 1"),
        ("--seed", "Use --seeds VALUE, (with the comma)"),
        ("--seed --dry-run", "Use --seeds VALUE, (with the comma)"),
        ("--limit 5", "has no flag --limit. Use --limit-images 5."),
        ("run --suite coco --epochs=3", "Use --set schedule.epochs=3; the row then carries"),
        ("--batch-size 4", "Use --set schedule.batch_size=4;"),
        ("--batch_size 4", "Use --set schedule.batch_size=4;"),
        ("pretrain mae-nano --lr 1e-3", "Use --set optim.base_lr=1e-3;"),
        ("--device cpu", "CUDA_VISIBLE_DEVICES="),
        ("compare A B --device cpu", "CUDA_VISIBLE_DEVICES="),
        ("--gpus 8", "--processes 8 gives one run 8 GPUs."),
        ("--model vit-nano", "Use --entries vit-nano."),
        ("--checkpoint mae.pth", "Use --entries 'ckpt:mae.pth'."),
        ("-o there", "Use --out there."),
        ("--resume", "it goes on where it was."),
        ("--limit_images 5", "Did you mean --limit-images?"),
        ("--entires vit-nano", "Did you mean --entries?"),
        ("compare --taks coco A", "`run.py compare` has no flag --taks. Did you mean --task?"),
        ("status --limit 5", "`run.py status --help` lists its flags."),
        ("-x", "`run.py run` has no flag -x. `run.py run --help` lists its flags."),
        ("run vit-nano", 'takes no "vit-nano" here. Use --entries vit-nano to measure'),
        ("status vit-nano", "`run.py status --help` explains what it takes."),
        ("leaderbord", '"leaderbord" is not a command. Did you mean `run.py leaderboard`?'),
        ("train --suite coco", "Did you mean `run.py run`?"),
        ("qqq", '"qqq" is not a command. `run.py --help` lists all commands.'),
        ("score", "run.py score: the following arguments are required: RESULTS, --name. "),
        ("--seeds", "argument --seeds: expected one argument. `run.py run --help` explains"),
    ],
)
def test_a_habit_is_answered(typed, answer, capsys):
    code, sentence = said(capsys, *typed.split())
    assert code == 2
    assert answer in sentence


def test_no_arguments_start_nothing(run_py):
    done = run_py()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "run.py --suite coco " in done.stderr
    assert "Nothing was started." in done.stderr
    assert list(run_py.folder.iterdir()) == []


def test_help_and_version_are_understood_as_words(capsys):
    for words in (["--version"], ["help"], ["-h"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("backbench ")
    assert shown.count("usage: run.py") == 2


def test_answers_name_flags_and_commands_that_exist():
    flags = {name: cli._flags(cli.parser(), name) for name in COMMANDS}
    everywhere = {flag for known in flags.values() for flag in known}
    assert {habit.flag for habit in habits._HABITS.values()} - {""} <= everywhere
    assert set(habits._COMMANDS.values()) <= set(COMMANDS)
    # A word of habit that a command has itself never reaches the answers.
    assert not set(habits._COMMANDS) & set(COMMANDS)


@pytest.mark.parametrize("recipe", ["mini", "finetune-mini", "mae-nano"])
@pytest.mark.parametrize("flag", ["--epochs", "--batch-size", "--lr", "--wd", "--precision"])
def test_keys_of_answers_are_keys_of_recipes(flag, recipe):
    config = next(
        known[recipe]()
        for known in (get_measurement(task).recipes() for task in ("coco", "finetune", "pretrain"))
        if recipe in known
    )
    key = habits._HABITS[flag].answer.split()[2].partition("=")[0]
    attrgetter(key)(config)
