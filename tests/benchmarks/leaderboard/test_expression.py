"""Conditions on rows: what they mean, and what they refuse."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones.base.errors import UserError
from benchmarks.leaderboard.expression import parse_expression

ROW = {
    "APbox": 40.0, "APmask": 35.0, "seeds": 3.0, "entry": "vit-nano", "gflops": None,
    "protocol": "vitdet/v1+100ep",
}  # fmt: skip
BASE = {**ROW, "APbox": 40.5, "APmask": None}


def verdict(text, base=BASE):
    return parse_expression("--filter", text, list(ROW)).condition(ROW, base)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("APbox > 39.9", True),
        ("APbox>=40 and seeds<3", False),
        ("APbox > 50 or seeds = 3", True),
        ("APbox > 50 or seeds = 2 and seeds = 3", False),
        ("(APbox > 50 or seeds = 3) and not seeds = 2", True),
        ("not not APbox > 39", True),
        ("APbox - APmask > 4.9", True),
        ("APbox - APmask + 1 < 5.5", False),
        ("APbox > -1", True),
        (".5 < 1e1 + APbox", True),
        ("entry = vit-nano", True),
        ("entry != 'vit-nano'", False),
        ("entry ~ NANO", True),
        ("protocol=vitdet/v1+100ep", True),
        ("APbox < baseline - 0.3", True),
        ("APbox<baseline-0.6", False),
        ("APbox + 1 < baseline.APbox", False),
        ("APmask < baseline", None),
        ("gflops > 3", None),
        ("not gflops > 3", None),
        ("gflops > 3 or seeds = 3", True),
        ("gflops > 3 and seeds = 2", False),
        ("gflops > 3 and seeds = 3", None),
    ],
)
def test_a_condition_means_what_it_says(text, expected):
    assert verdict(text) is expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "missing"),
        ("APbox", "comparison"),
        ("APbox >", "a number is missing; for example"),
        ("APbox > 3 seeds", "nothing may follow"),
        ("(APbox > 3", "not closed"),
        ("APbx > 3", 'Did you mean "APbox"'),
        ("1 > 2", "unknown name"),
        ("APbox-APmask > 3", "unknown name"),
        ("entry > 3", "number"),
        ("entry > 'a'", "no order"),
        ("APbox + entry > 3", "cannot be added"),
        ("APbox < baseline.APbx", "Did you mean"),
        ("APbox + APmask < baseline", "baseline.NAME"),
        ("APbox.__class__ = 1", "unknown name"),
        ("__import__('os')", "comparison"),
        ("APbox > 3; seeds", "';'"),
        ("(" * 100 + "APbox > 3" + ")" * 100, "brackets"),
        ("not " * 100 + "APbox > 3", "'not'"),
        ("APbox > 3 or " * 200 + "APbox > 3", "longer"),
    ],
)
def test_a_wrong_condition_is_one_sentence(text, words):
    with pytest.raises(UserError) as caught:
        verdict(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(alphabet="APboxseeds<>=!~()+-'\" .019&|", max_size=40))
@settings(max_examples=200, deadline=None)
def test_whatever_is_typed_is_a_verdict_or_a_sentence(text):
    with contextlib.suppress(UserError):
        assert verdict(text) in (True, False, None)
