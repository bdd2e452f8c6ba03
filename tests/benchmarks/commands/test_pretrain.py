"""Entries whose weights have to be made first, and ``run.py pretrain``, as whole commands."""

import json

import pytest


def by_task(run_py):
    """Return the records by task."""
    found = {}
    for path in sorted(run_py.runs.glob("*/record.json")):
        content = json.loads(path.read_text())
        found.setdefault(content["spec"]["task"], []).append(content)
    return found


def steps_of(run_py, task):
    ids = [content["run_id"] for content in by_task(run_py)[task]]
    return [len((run_py.runs / i / "work" / "steps.txt").read_text().split()) for i in ids]


def test_pretraining_comes_first_once_and_all_seeds_share_it(run_py):
    done = run_py("--entries", "vit-nano,mae-nano", "--seeds", "3")
    assert done.returncode == 0, done.stderr
    records = by_task(run_py)
    (pretraining,) = records["pretrain"]
    assert len(records["coco"]) == 6
    assert steps_of(run_py, "pretrain") == [10]
    measured = [r for r in records["coco"] if r["labels"]["entry"] == "mae-nano"]
    assert {r["spec"]["weights_sha256"] for r in measured} == {f"pretrain:{pretraining['run_id']}"}
    assert all(r["backbone"]["method"] == "mae" for r in measured)
    assert all(r["created"] >= pretraining["finished"] for r in measured)


def test_the_second_time_runs_nothing_and_another_task_would_share_the_weights(run_py):
    run_py("--entries", "mae-nano")
    again = run_py("--entries", "pretrain:mae-nano")
    assert again.returncode == 0
    assert "2 done; nothing to run" in again.stdout
    more = run_py("--entries", "mae-nano", "--recipe", "long")
    assert "1 done, 1 missing; 1 to run" in more.stdout
    assert len(by_task(run_py)["pretrain"]) == 1


def test_the_table_shows_what_made_the_weights_and_no_losses(run_py):
    done = run_py("--entries", "vit-nano,mae-nano")
    table = done.stdout.split("coco v1")[1]
    row = next(line for line in table.splitlines() if "mae-nano" in line)
    assert "mae mini 3 ep" in row
    assert "pretrain v1" not in done.stdout


def test_seed_and_backbone_of_pretraining_can_be_chosen(run_py):
    entry = "pretrain:mae-nano?seed=2&arch=vit-ti16"
    assert run_py("--entries", entry).returncode == 0
    (record,) = by_task(run_py)["pretrain"]
    assert record["spec"]["seed"] == 2
    assert record["spec"]["backbone"] == record["spec"]["recipe"]["backbone"] == "vit-ti16"
    assert by_task(run_py)["coco"][0]["spec"]["seed"] == 0


def test_a_failed_pretraining_blocks_what_needs_it_and_nothing_else(run_py):
    done = run_py("--entries", "mae-nano,swin-nano", STAND_IN_FAIL="vit-nano=user")
    assert done.returncode == 3
    records = by_task(run_py)
    assert [r["status"] for r in records["pretrain"]] == ["failed"]
    assert [r["labels"]["entry"] for r in records["coco"]] == ["swin-nano"]
    assert "blocked: The pretraining of mae-nano" in done.stdout
    assert "The pretraining of mae-nano" in done.stderr
    assert run_py("--entries", "mae-nano,swin-nano").returncode == 0


def test_weights_that_changed_are_not_measured(run_py):
    run_py("--entries", "mae-nano", "--recipe", "mini")
    (weights,) = run_py.runs.glob("*/work/weights.safetensors")
    weights.write_bytes(b"edited")
    done = run_py("--entries", "mae-nano", "--recipe", "long")
    assert done.returncode == 3
    assert "is not the file that weights.json next to it describes" in done.stderr


def test_the_command_makes_weights_and_says_how_to_measure_them(run_py):
    done = run_py("pretrain", "mae-nano", "--seeds", "2")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("weights: ")]
    assert len(lines) == 2
    entry = lines[0].split("--entries ")[1]
    measured = run_py("--entries", entry)
    assert measured.returncode == 0, measured.stderr
    content = json.loads(run_py("pretrain", "mae-nano", "--json").stdout)
    assert content["exit_code"] == 0
    assert content["weights"][0] in lines[0]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["pretrain", "mea-nano"], 2, 'Did you mean "mae-nano"?'),
        (["pretrain", "mae-nano", "--set", "schedule.steps=1"], 2, "unknown key"),
        (["pretrain", "mae-nano", "--arch", "vit-nona"], 2, 'Did you mean "vit-nano"?'),
        (["pretrain", "mae-nano", "--init-from", "no.pth"], 4, "the file does not exist"),
        (["pretrain", "mae-nano", "--init-from="], 2, "is empty; name a value"),
        (["pretrain", "mae-nano", "--init-from", "~nouser/a.pth"], 4, "has no home folder"),
        (["pretrain", "mae-nano", "--init-from", "a" * 5000], 4, "no file has that name"),
        (["pretrain", "mae-nano", "--data", "imagenet=/no"], 4, "which is not a folder"),
        (["--entries", "pretrain:mea-nano"], 2, 'Did you mean "mae-nano"?'),
        (["--entries", "mae-nano,pretrain:mae-nano?sed=1"], 2, 'Did you mean "seed"?'),
        (["--entries", "pretrain:mae-nano?seed=x"], 2, "write pretrain:RECIPE"),
        (["export", "no.safetensors", "--format", "mae", "--to", "x.pth"], 2, "There is no file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_sentence_and_nothing_runs(run_py, arguments, code, words):
    done = run_py(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(run_py.runs.glob("*/work"))
