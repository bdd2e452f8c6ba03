"""Facts about detectors, side by side."""

from benchmarks.leaderboard.facts import differing, row_facts


def test_facts_that_differ_are_named():
    first = {"attention": "global in all blocks", "blocks": "12", "memory format": "contiguous"}
    second = {**first, "attention": "windows of 14", "windows": "7"}
    assert differing([first, second]) == {
        "attention": ("global in all blocks", "windows of 14"),
        "windows": ("—", "7"),
    }
    assert differing([first, {}])["blocks"] == ("12", "not recorded")
    assert differing([{}, {}]) == {}


def test_runs_of_a_row_that_differ_in_a_fact_show_both(make_record):
    old, new = (
        make_record(details={"detector": {"attention": text}, "layout": "channels last"})
        for text in ("global", "windows")
    )
    assert row_facts([old, new, make_record()]) == {
        "attention": "global / windows",
        "memory format": "channels last",
    }
