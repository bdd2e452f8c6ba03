"""Whole commands on labelled images that are replaced in place, as people fix files."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def picture(label, number):
    """Return a BMP, which has the same size in bytes whatever it shows."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[..., label] = 200
    pixels[:: 2 + number % 3] //= 2
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


@pytest.fixture
def images(tmp_path):
    for split, count in (("train", 8), ("val", 6)):
        for label in range(3):
            folder = tmp_path / "set" / split / f"c{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.bmp").write_bytes(picture(label, number))
    return tmp_path / "set"


@pytest.fixture
def knn(tmp_path, images):
    """Return a command that runs k-NN and returns the newest record's top1 and warnings."""

    def run(*more):
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--suite", "imagenet", "--tasks",
             "knn", "--data", f"imagenet={images}", "--entries", "vit-nano", "--out",
             str(tmp_path / "runs"), "--executor", "inline", *more],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        newest = max((tmp_path / "runs").glob("*/record.json"), key=lambda p: p.stat().st_mtime_ns)
        record = json.loads(newest.read_text())
        return record["metrics"]["knn_top1"]["value"], record.get("warnings", []), newest.parent

    return run


def overwrite(path, content):
    """Write into the existing file, with the times that it had."""
    before = path.stat()
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_images_replaced_in_place_are_measured_anew(images, knn):
    right, _, first = knn()
    assert right == 100.0
    for path in sorted((images / "val").rglob("*.bmp")):
        overwrite(path, picture((int(path.parent.name[1]) + 1) % 3, int(path.stem)))
    wrong, _, second = knn()
    assert wrong == 0.0
    assert first != second, "another run, in a table of its own"
    assert knn("--rerun", "all")[0] == 0.0


def test_broken_images_that_are_replaced_count_again(images, knn):
    broken = images / "train" / "c0" / "0.bmp"
    sound = broken.read_bytes()
    overwrite(broken, sound[: len(sound) // 2])
    _, warnings, first = knn("--set", "data.max_corrupt=2")
    assert any(broken.name in warning for warning in warnings if "unreadable" in warning)
    overwrite(broken, sound)
    _, warnings, second = knn("--set", "data.max_corrupt=2")
    assert not any("unreadable" in warning for warning in warnings)
    assert first != second
