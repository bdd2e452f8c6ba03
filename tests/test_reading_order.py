"""A real run enters the files in the order in which the README says to read them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def hops():
    """Return the files of both lists of the README: a checkpoint's and an image's."""
    text = (ROOT / "README.md").read_text().partition("Two ways through a run")[2]
    ways = text.partition("`make lint`")[0].split("An image, from its file")
    return [re.findall(r"^\d+\. `([^`]+)`", way, re.MULTILINE) for way in ways]


def test_the_readme_has_few_hops_and_files_that_exist():
    checkpoint, image = hops()
    assert (len(checkpoint), len(image)) == (7, 10)
    assert [path for path in (*checkpoint, *image) if not (ROOT / path).is_file()] == []


@pytest.mark.slow
def test_a_run_enters_them_in_this_order(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "DETECTRON2_DATASETS"}
    environment["PYTHONPATH"] = str(ROOT)
    words = [sys.executable, "-m", "tests.traced", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    entered = list(dict.fromkeys((tmp_path / "trace.txt").read_text().splitlines()))
    for way in hops():
        assert [path for path in entered if path in way] == way
