"""``run.py list``: an overview on one screen, tables, and what contains a word."""

import json

import pytest

from benchmarks import cli
from benchmarks.suites import get_measurement, measurement_names


def listed(capsys, *words):
    assert cli.main(["list", *words]) == 0
    return capsys.readouterr().out


def test_the_overview_fits_a_screen(capsys):
    lines = listed(capsys).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 81
    assert lines[0].split()[:2] == ["suites", "4"]


def test_words_filter_rows(capsys):
    rows = json.loads(listed(capsys, "recipes", "LoMaR", "448", "--json"))
    assert [row["recipe"] for row in rows["recipes"]] == ["lomar-vit-b16-448px-400ep"]
    kinds = json.loads(listed(capsys, "swin", "--json"))
    assert {"backbones", "recipes", "formats"} <= set(kinds)
    assert all("swin" in " ".join(row.values()).lower() for rows in kinds.values() for row in rows)


def test_a_name_shows_where_a_recipe_comes_from(capsys):
    shown = listed(capsys, "recipes", "vitdet-100ep")
    assert "vitdet-100ep-cascade" not in shown
    assert "51.6 APbox / 45.9 APmask" in shown
    assert "1,030 A100-hours" in shown


def test_a_variant_says_what_it_changes(capsys):
    shown = listed(capsys, "vitdet-100ep-1pct")
    assert "the variant on 1 % of the training images" in shown.replace("Return ", "")
    assert "The recipe that it changes: ``vitdet_100ep``." in shown


@pytest.mark.parametrize(
    ("words", "guess"),
    [
        (["recepies"], ' Did you mean "recipes"?'),
        (["recipes", "vitdet-100pe"], ' Did you mean "vitdet-100ep"?'),
        (["recipes", "§"], ""),
    ],
)
def test_words_that_nothing_contains_are_one_sentence(words, guess, capsys):
    assert cli.main(["list", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.endswith(f"contains {words[-1]!r}.{guess}\n")


def test_every_recipe_says_what_it_is(capsys):
    rows = json.loads(listed(capsys, "recipes", "--json"))["recipes"]
    assert len(rows) == sum(len(get_measurement(task).recipes()) for task in measurement_names())
    for row in rows:
        assert 10 < len(row["about"]) <= 100, row["recipe"]
        assert "``" not in row["about"]
        assert "partial(func" not in row["about"]
