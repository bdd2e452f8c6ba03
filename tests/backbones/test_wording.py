"""Parts of sentences that several messages share."""

import pytest

from backbones.base.wording import first_of


@pytest.mark.parametrize(
    ("items", "text"),
    [([], ""), (["a"], "a"), ([1, 2, 3], "1, 2, 3"), (["a", "b", "c", "d"], "a, b, c and 1 more")],
)
def test_the_first_items_and_how_many_follow(items, text):
    assert first_of(items) == text


def test_another_count_and_separator():
    assert first_of("abcd", 2, "; ") == "a; b and 2 more"
