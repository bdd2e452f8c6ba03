"""Several data sets in one command: how they are named, and which task gets which."""

import json
from pathlib import Path

import pytest

from backbones.base.errors import PreflightError, UserError
from benchmarks.data.collections import parse_sets, sets_for


def make_sets(folder: Path) -> None:
    """Write two annotated sets, coins and cells, and a labelled one, pets."""
    content: dict[str, list[object]] = {"images": [], "annotations": [], "categories": []}
    for name in ("coins", "cells"):
        (folder / name / "train").mkdir(parents=True)
        (folder / name / "train" / "_annotations.coco.json").write_text(json.dumps(content))
    (folder / "pets" / "train" / "cat").mkdir(parents=True)


def test_a_file_names_sets_next_to_it(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text('[sets]\ncoins = "coins"\ncells = "/data/cells"\n')
    wanted = {"coins": tmp_path / "coins", "cells": Path("/data/cells")}
    assert parse_sets([str(path)]) == (wanted, "lab")
    path.write_text('name = "our sets"\n' + path.read_text())
    given, name = parse_sets([str(path), "imagenet=/in"])
    assert (given, name) == ({"imagenet": Path("/in"), **wanted}, "our sets")


def test_sets_of_the_command_line_are_a_collection() -> None:
    assert parse_sets(["a=/a", "b=/b"]) == ({"a": Path("/a"), "b": Path("/b")}, "a+b")
    assert parse_sets(["a=/a"])[1] == parse_sets(["coco=/a"])[1] == ""
    many = [f"a-long-name-{number}=/{number}" for number in range(5)]
    assert parse_sets(many)[1].startswith("5 sets ")
    assert parse_sets(many)[1] == parse_sets(many[::-1])[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sets = 3", "it has no"),
        ("[sets]", "it has no"),
        ('[set]\na = "b"', '"set" is not known'),
        ("[sets]\na = 3", "sets.a is 3"),
        ('[sets]\ncoco = "b"', "coco is a kind of data"),
        ("[sets", "is not a TOML file"),
        ('[sets]\nmine = "b"', "the set mine is given twice"),
    ],
)
def test_a_file_that_is_not_a_collection_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "sets.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        parse_sets(["mine=/mine", str(path)])
    with pytest.raises(PreflightError, match="cannot be read"):
        parse_sets([str(tmp_path / "absent.toml")])


def test_each_set_goes_to_the_tasks_that_read_it(tmp_path: Path) -> None:
    make_sets(tmp_path)
    given = {name: tmp_path / name for name in ("coins", "cells", "pets")}
    given |= {"imagenet": tmp_path / "in"}
    both = {"coco", "imagenet"}
    boxes = sets_for(given, "coco", both)
    assert [name for name, _ in boxes] == ["coins", "cells"]
    assert boxes[0][1] == {"imagenet": tmp_path / "in", "coins": tmp_path / "coins"}
    assert sets_for(given, "imagenet", both) == [("", given)]
    # With boxes only, the third one is a broken set, not one that nobody asked for.
    assert [name for name, _ in sets_for(given, "coco", {"coco"})] == ["coins", "cells", "pets"]
    assert sets_for({"coins": tmp_path}, "coco", {"coco"}) == [("", {"coins": tmp_path})]
