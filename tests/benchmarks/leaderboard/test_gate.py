"""``--filter``, ``--sort``, ``--columns``, ``--fail-if``: what a person sees, and when it stops."""

import csv
import io
import json

import pytest

from backbones.base.errors import UserError
from benchmarks.commands.leaderboard import main
from benchmarks.leaderboard.gate import EXIT_CODE
from benchmarks.options import LeaderboardOptions
from benchmarks.store.folders import Store
from benchmarks.store.record import Labels


@pytest.fixture
def board(tmp_path, make_record, make_spec):
    """Return a function that writes (entry, score) and one that runs the command."""

    def write(folder, *results, **changes):
        store = Store(tmp_path / folder)
        for name, score, *seed in results:
            spec = make_spec(backbone=name, seed=seed[0] if seed else 0)
            labels = Labels("coco", name, "mini", "mini/v1", "mini", True)
            record = make_record(spec, score, labels=labels, **changes)
            store.folder(record.run_id).write_record(record)
        return store.root

    return write


def run(root, **options):
    return main(LeaderboardOptions(out=root, **{"format": "csv", **options}))


def shown(capsys):
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_filter_and_order_keep_the_ranking(board, capsys):
    root = board("runs", ("a", 10.0), ("b", 30.0), ("c", 20.0))
    assert run(root, where="APbox > 15", order=("APbox:up",)) == 0
    assert [(row["rank"], row["entry"]) for row in shown(capsys)] == [("2", "c"), ("1", "b")]
    run(root, order=("APbox",))
    assert [row["entry"] for row in shown(capsys)] == ["b", "c", "a"]
    run(root, order=("entry:down",))
    assert [row["entry"] for row in shown(capsys)] == ["c", "b", "a"]
    run(root, where="entry = d", format="table")
    assert capsys.readouterr().out == "None of 3 runs is in view.\n"


def test_rows_without_a_value_stand_last_either_way(board, capsys):
    root = board("runs", ("a", 10.0), ("b", None), ("c", 20.0))
    for order in ("APbox:up", "APbox:down"):
        run(root, order=(order,))
        assert shown(capsys)[-1]["entry"] == "b"


def test_chosen_columns_come_in_their_order(board, capsys):
    root = board("runs", ("a", 10.0), ("b", 30.0))
    run(root, columns=("APbox", "ties", "gflops", "entry"), format="table")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["APbox", "ties", "GFLOPs", "entry"]
    assert lines[4].split() == ["30.0", "a", "—", "b"]


@pytest.mark.parametrize(
    "options", [{"order": ("APbx",)}, {"columns": ("APbx",)}, {"where": "APbx > 3"}]
)
def test_an_unknown_name_is_answered_with_the_nearest(board, options):
    root = board("runs", ("a", 10.0))
    with pytest.raises(UserError, match='Did you mean "APbox"'):
        run(root, **options)


def test_a_gate_stops_what_fell_below_an_entry(board, capsys):
    root = board("runs", ("old", 30.0), ("same", 29.8), ("worse", 29.0))
    code = run(root, fail_if="APbox < baseline - 0.3", baseline="old")
    assert code == EXIT_CODE == 6
    err = capsys.readouterr().err
    assert "worse in coco mini/v1: APbox 29 (baseline 30)" in err
    assert "same in" not in err
    assert run(root, fail_if="APbox < baseline - 2", baseline="old") == 0


def test_a_gate_holds_rows_against_another_folder(board, capsys):
    old = board("old", ("a", 30.0), ("b", 20.0))
    new = board("new", ("a", 30.1), ("b", 19.0), ("c", 1.0))
    assert run(new, fail_if="APbox < baseline - 0.3", baseline=str(old)) == EXIT_CODE
    assert "b in coco" in capsys.readouterr().err
    assert run(new, fail_if="APbox < baseline - 0.3", baseline=str(old), where="entry = a") == 0


def test_a_missing_value_is_no_pass(board, capsys):
    root = board("runs", ("a", 30.0), ("b", None))
    assert run(root, fail_if="APbox < 10") == EXIT_CODE
    assert "b in coco mini/v1: APbox missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fail_if": "APbox < baseline"}, "name it with --baseline"),
        ({"fail_if": "APbox < baseline", "baseline": "nobody"}, "neither an entry"),
        ({"baseline": "a"}, "for --fail-if"),
        ({"where": "APbox < baseline"}, "knows no baseline"),
        ({"fail_if": "APbox < baseline", "baseline": "a", "where": "entry = a"}, "no row to judge"),
        ({"fail_if": "APbox < 99", "where": "entry = b"}, "--filter 'entry = b' leaves no row"),
        ({"fail_if": "seeds < 2", "where": "entry = b"}, "--filter 'entry = b' leaves no row"),
    ],
)
def test_a_gate_that_cannot_judge_says_so(board, options, words):
    root = board("runs", ("a", 30.0))
    with pytest.raises(UserError, match=words):
        run(root, **options)


def test_a_gate_over_no_runs_speaks_of_no_baseline(tmp_path):
    with pytest.raises(UserError, match=r"no row to judge\.$"):
        run(tmp_path, fail_if="seeds < 2")


def test_a_page_cannot_be_a_folder(board, tmp_path):
    root = board("runs", ("a", 30.0))
    with pytest.raises(UserError, match=r"^--html .*: this is a folder; name a file"):
        run(root, html=tmp_path)


def test_intervals_over_seeds_reach_every_format(board, capsys):
    root = board("runs", *(("a", 30.0 + s / 10, s) for s in range(3)), ("b", 20.0), ("c", 29.9))
    texts = {}
    for form in ("table", "markdown", "latex", "csv"):
        run(root, format=form)
        texts[form] = capsys.readouterr().out
    assert "30.1 ±" in texts["table"]
    assert "standard deviation from training to training: APbox" in texts["table"]
    assert "half of the 95 % interval over training again" in texts["markdown"]
    assert r"\textbf{30.1}$_{[" in texts["latex"]
    rows = {row["entry"]: row for row in csv.DictReader(io.StringIO(texts["csv"]))}
    assert float(rows["a"]["APbox_low"]) < 30.1 < float(rows["a"]["APbox_high"])
    assert (rows["b"]["rank_best"], rows["b"]["rank_worst"]) == ("3", "3")
    assert (rows["c"]["rank_best"], rows["c"]["rank_worst"]) == ("1", "2")
    assert "1-2" in texts["table"]
    run(root, json=True)
    (table,) = json.loads(capsys.readouterr().out)
    low, high = (table["statistics"]["rows"][0]["intervals"]["APbox"][k] for k in ("low", "high"))
    assert low < 30.1 < high


def test_one_seed_is_marked_in_every_format(board, capsys):
    root = board("runs", *(("a", 30.0 + s / 10, s) for s in range(3)), ("b", 20.0), ("c", 29.9))
    for form in ("table", "markdown", "latex"):
        run(root, format=form)
        text = capsys.readouterr().out
        marked = [line for line in text.splitlines() if "1 seed" in line and "differ" not in line]
        assert len(marked) == 2
        assert "1 seed: c, b; a new training may differ." in text
        assert "seed floor of mini/v1, a standard deviation of" in text
        # However the columns are chosen, the sentence stays.
        run(root, format=form, columns=("entry", "APbox"))
        assert "1 seed: c, b; a new training may differ." in capsys.readouterr().out
    run(root, format="csv")
    rows = {row["entry"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert rows["b"]["interval_over"] == "1 seed; training again (seed floor)"
    assert rows["a"]["interval_over"] == "training again"
    run(root, json=True)
    (table,) = json.loads(capsys.readouterr().out)
    assert [row["one_seed"] for row in table["statistics"]["rows"]] == [False, True, True]


_SCATTER, _INTERVAL = "from training to training", "95 % interval over training again"


@pytest.mark.parametrize("form", ["table", "markdown", "latex"])
@pytest.mark.parametrize(
    ("columns", "said", "unsaid"),
    [
        ((), ("share a letter", _SCATTER, _INTERVAL), ()),
        (("entry", "APbox"), (_SCATTER, _INTERVAL), ("share a letter",)),
        (("entry", "ties"), ("share a letter",), (_SCATTER, _INTERVAL)),
        (("rank", "entry", "seeds"), (), ("share a letter", _SCATTER, _INTERVAL)),
    ],
)
def test_below_a_table_stands_what_its_columns_need(board, capsys, form, columns, said, unsaid):
    root = board("runs", *(("a", 30.0 + s / 10, s) for s in range(3)), ("b", 20.0), ("c", 29.9))
    run(root, format=form, columns=columns)
    text = capsys.readouterr().out
    assert not [words for words in said if words not in text]
    assert not [words for words in unsaid if words in text]
    assert ("±" in text) == (form != "latex" and _INTERVAL in said)


def test_a_page_takes_no_filters_and_heeds_the_gate(board, tmp_path, capsys):
    root, page = board("runs", ("a", 30.0), ("b", 5.0)), tmp_path / "board.html"
    with pytest.raises(UserError, match="filters of its own"):
        run(root, html=page, where="APbox > 3")
    assert not page.exists()
    assert run(root, html=page, fail_if="APbox < 10") == EXIT_CODE
    captured = capsys.readouterr()
    assert "open it in a browser" in captured.out
    assert "b in coco" in captured.err
    assert page.stat().st_size > 1000
