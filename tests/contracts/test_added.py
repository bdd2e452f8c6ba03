"""A folder that a scan finds is a whole task, two files a method: no other file knows their names.

``added`` holds the examples of docs/extending.md, word by word.
"""

import base64
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ADDED = Path(__file__).with_name("added")
ENTRIES = ("resnet-nano", "vit-nano")


def run(folder, *words, out=True):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ADDED), str(ROOT)])}
    for name in ("DETECTRON2_DATASETS", "IMAGENET_DIR"):
        environment.pop(name, None)
    words = [sys.executable, "benchmarks/run.py", *words, *(("--out", str(folder)) if out else ())]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a folder in which two entries were measured."""
    folder = tmp_path_factory.mktemp("added") / "runs"
    asked = ("--tasks", "centroid", "--entries", ",".join(ENTRIES), "--limit-images", "40")
    plan = json.loads(run(folder, *asked, "--dry-run", "--json"))
    assert [(cell["task"], cell["state"]) for cell in plan["cells"]] == [
        ("centroid", "missing")
    ] * 2
    run(folder, *asked)
    return folder


def test_it_is_recorded_with_its_results_by_image(runs):
    records = [json.loads(path.read_text()) for path in runs.glob("*/record.json")]
    assert {record["spec"]["task"] for record in records} == {"centroid"}
    names = {Path(file["path"]).name for record in records for file in record["files"]}
    assert names >= {"predictions.npz", "resamples.npz"}


def test_it_has_a_table_with_intervals(runs):
    (table,) = json.loads(run(runs, "leaderboard", "--format", "json"))
    assert table["key"]["task"] == "centroid"
    rows = table["statistics"]["rows"]
    assert len(rows) == len(ENTRIES)
    for row in rows:
        interval = row["intervals"]["centroid_top1"]
        assert interval["low"] < interval["value"] < interval["high"]


def test_it_is_compared_image_by_image(runs):
    (found,) = json.loads(run(runs, "compare", *ENTRIES, "--json"))["comparisons"]
    assert found["num_images"] == 40
    (headline,) = found["headline"]
    assert headline["metric"] == "centroid_top1"
    assert headline["difference"]["p"] is not None


def test_it_is_on_the_page(runs, tmp_path):
    run(runs, "leaderboard", "--html", str(tmp_path / "page.html"))
    packed = re.findall(r'id="(?:document|details)">([^<]*)<', (tmp_path / "page.html").read_text())
    texts = [zlib.decompress(base64.b64decode(text)).decode() for text in packed]
    assert '"centroid_top1"' in "".join(texts)


def test_a_method_of_two_files_keeps_its_contract(tmp_path):
    out = run(tmp_path / "runs", "check", "rotation-nano", out=False)
    assert "all 54 tensors of the checkpoint load" in out
    recipes = json.loads(run(tmp_path / "runs", "list", "--json", out=False))["recipes"]
    assert "rotation-nano" in {recipe["recipe"] for recipe in recipes}


@pytest.mark.slow
def test_a_method_pretrains_and_is_measured_by_a_task(tmp_path):
    """Both were added: the checkpoint of one goes through the other."""
    small = ("--set", "schedule.epochs=1", "--set", "schedule.warmup_epochs=0")
    run(tmp_path, "pretrain", "rotation-nano", "--limit-images", "16", *small)
    (weights,) = tmp_path.glob("*/work/weights.safetensors")
    entry = f"ckpt:{weights}"
    run(tmp_path, "--tasks", "centroid", "--entries", entry, "--limit-images", "20")
    (table,) = json.loads(run(tmp_path, "leaderboard", "--format", "json"))
    assert "rotation" in table["rows"][0]["pretrain"]


@pytest.mark.parametrize("file", sorted(ADDED.glob("*/**/*.py")), ids=lambda path: path.name)
def test_the_docs_show_these_very_files(file):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.S)
    assert file.read_text() in blocks


def test_the_docs_count_the_lines_right():
    text = (ROOT / "docs" / "extending.md").read_text()
    for what, folders in (("a task", ["tasks"]), ("a pretraining method", ["recipes", "methods"])):
        files = [path for name in folders for path in (ADDED / name).rglob("*.py")]
        lines = sum(len(path.read_text().splitlines()) for path in files)
        assert f"| {what} | {len(files)} | {lines} |" in text
