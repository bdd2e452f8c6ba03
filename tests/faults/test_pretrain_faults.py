"""Pretraining that cannot go well, through the real command line: a sentence, and nothing lost."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "schedule.batch_size=4",
    "schedule.batch_size_per_device=4",
    "schedule.epochs=1",
    "schedule.warmup_epochs=0",
    "schedule.state_images=4",
)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def run(tmp_path, photos):
    """Pretrain on eight photographs; return exit code and what was said of errors."""

    def call(recipe, *arguments, data=photos, sets=SMALL, limit=None):
        def bound():
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        overrides = [word for value in sets for word in ("--set", value)]
        images = [] if data is None else ["--data", f"images={data}"]
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / "run.py"), "pretrain", recipe, *images,
             *overrides, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            preexec_fn=bound,
        )  # fmt: skip
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return done.returncode, done.stderr

    return call


def assert_one_sentence(said, words):
    lines = [line for line in said.splitlines() if words in line]
    assert len(lines) == 1, said
    assert lines[0].rstrip().endswith("."), said


def started(tmp_path):
    return list(tmp_path.glob("runs/*/work"))


def test_no_images(run, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    code, said = run("mae-nano", data=empty)
    assert code == 4
    assert_one_sentence(said, f"No images in {empty}: looked for")
    assert not started(tmp_path)


def test_fewer_images_than_a_batch(run, tmp_path):
    code, said = run("mae-nano", sets=())
    assert code == 2
    assert_one_sentence(said, "There are 8 images, fewer than a batch of 16")
    assert not started(tmp_path)


def test_an_unknown_recipe(run, tmp_path):
    code, said = run("mocov4-nano")
    assert code == 2
    assert_one_sentence(said, 'Did you mean "mocov3-nano"')
    assert not started(tmp_path)


def test_images_that_are_not_there(run, tmp_path):
    code, said = run("mae-nano", data=tmp_path / "gone")
    assert code == 4
    assert_one_sentence(said, "gone")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "change", "words"),
    [
        ("mae-nano", "method=mea", "--set method: unknown key"),
        ("mae-nano", "data.img_size=60", "data.img_size: 60 is not supported; use a multiple of 8"),
        ("lomar-nano", "data.img_size=24", "window"),
        ("simmim-nano", "model.square_size=24", "model.square_size 24 must be a multiple"),
        ("mae-nano", "backbone=swin-nano", "mae"),
        ("supervised-nano", "data.img_size=64", "learns from classes, and"),
    ],
)
def test_what_does_not_go_together(run, recipe, change, words):
    code, said = run(recipe, sets=(*SMALL, change))
    assert code == 2
    assert_one_sentence(said, words)


@pytest.mark.slow
def test_images_smaller_than_the_crop_are_enlarged(run, tmp_path):
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    for number in range(4):
        Image.new("RGB", (1 + number, 3), (number, 0, 0)).save(tiny / f"{number}.png")
    assert run("mae-nano", data=tiny)[0] == 0


@pytest.mark.slow
def test_weights_of_another_method_are_no_beginning(run, tmp_path):
    assert run("mae-nano")[0] == 0
    (objective,) = tmp_path.glob("runs/*/work/objective.safetensors")
    code, said = run("lomar-nano", "--init-from", objective)
    assert code == 2
    assert_one_sentence(said, "was made by mae, and this run's method is lomar")
    weights = objective.with_name("weights.safetensors")
    assert run("lomar-nano", "--init-from", weights)[0] == 0
    records = [path.read_text() for path in tmp_path.glob("runs/*/record.json")]
    assert sum("Fresh: head, mask_token." in record for record in records) == 1
    garbage = tmp_path / "garbage.pth"
    garbage.write_bytes(b"no weights at all")
    code, said = run("mae-nano", "--init-from", garbage)
    assert code == 4
    assert_one_sentence(said, "garbage.pth")


@pytest.mark.slow
def test_a_state_of_another_method_is_not_gone_on_from(run, tmp_path):
    """Runs have folders of their own; only a hand that copies states can mix them up."""
    assert run("mae-nano")[0] == 0
    assert run("lomar-nano", sets=(*SMALL, "schedule.epochs=1.5"), limit=2**20)[0] == 4
    (finished,) = (p.parent for p in tmp_path.glob("runs/*/work/objective.safetensors"))
    (other,) = (p for p in started(tmp_path) if p != finished)
    (other / "states").mkdir(exist_ok=True)
    for path in (finished / "states").iterdir():
        (other / "states" / path.name).write_bytes(path.read_bytes())
    code, said = run("lomar-nano", sets=(*SMALL, "schedule.epochs=1.5"))
    assert code == 2
    assert_one_sentence(said, "holds the state of another run (method mae instead of lomar")


@pytest.mark.slow
def test_a_full_disk_loses_nothing(run, tmp_path):
    """A bound on the size of files stands for the disk: no state fits."""
    code, said = run("mae-nano", limit=2**20)
    assert code == 4
    assert_one_sentence(said, "Cannot write")
    assert not list(tmp_path.glob("runs/*/work/states/*.part"))
    code, said = run("mae-nano")
    assert code == 0, said
