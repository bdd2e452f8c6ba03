"""``run.py score``: rows of results files, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import cli
from benchmarks.leaderboard.page.costs import paid_hours
from benchmarks.leaderboard.page.repeat import Repeater
from benchmarks.store.folders import Store
from benchmarks.task import EXTERNAL

CLASSES = {7: "cat", 3: "dog"}


def _truth() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 120, "height": 90} for n in range(5, 25)]
    annotations: list[dict[str, Any]] = []
    for number in range(1, 61):
        x, y, w, h = (float(v) for v in rng.uniform((0, 0, 12, 12), (60, 40, 50, 45)).round(1))
        annotations.append(
            {
                "id": number,
                "image_id": int(rng.integers(5, 25)),
                "category_id": (7, 3)[number % 2],
                "bbox": [x, y, w, h],
                "iscrowd": 0,
                "area": w * h,
            }
        )
    categories = [{"id": number, "name": name} for number, name in CLASSES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _results(seed: int, noise: float = 0.1) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    found = []
    for one in _truth()["annotations"]:
        moved = np.array(one["bbox"]) + rng.normal(0, noise, 4) * one["bbox"][2]
        x, y, w, h = np.maximum(moved, (0, 0, 2, 2)).tolist()
        found.append(
            {
                "image_id": one["image_id"],
                "category_id": one["category_id"],
                "bbox": [x, y, min(w, 120 - x), min(h, 90 - y)],
                "score": float(rng.random()),
            }
        )
    return found


class Scorer:
    """Runs the command in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.write("truth.json", _truth())

    def write(self, name: str, content: Any) -> Path:
        path = self.folder / name
        path.write_text(json.dumps(content), "utf-8")
        return path

    def __call__(self, *arguments: object, command: str = "score") -> tuple[int, str, str]:
        words = [command, *map(str, arguments), "--out", str(self.folder / "runs")]
        if command == "score":
            words += ["--data", f"coco={self.folder / 'truth.json'}"]
        code = cli.main(words)
        out, err = self._capsys.readouterr()
        return code, out, err

    def records(self) -> list[dict[str, Any]]:
        paths = sorted((self.folder / "runs").glob("*/record.json"))
        return [json.loads(path.read_text("utf-8")) for path in paths]


@pytest.fixture
def scorer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Scorer:
    return Scorer(tmp_path, capsys)


def test_a_file_becomes_a_row_with_intervals_and_classes(scorer: Scorer) -> None:
    path = scorer.write("a.json", _results(0))
    code, out, err = scorer(path, "--name", "Detector A")
    assert code == 0, err
    assert "protocol external/v1" in out
    assert "Detector A" in out
    assert "±" in out
    assert out.index("cat") > out.index("Detector A")
    (record,) = scorer.records()
    assert record["spec"]["task"] == EXTERNAL
    assert record["labels"]["protocol"] == "external/v1"
    assert {Path(file["path"]).name for file in record["files"]} == {
        "detections.npz",
        "matches.npz",
        "resamples.npz",
    }


def test_scoring_again_does_nothing_unless_asked_to(scorer: Scorer) -> None:
    path = scorer.write("a.json", _results(0))
    scorer(path, "--name", "A")
    (before,) = scorer.records()
    code, out, err = scorer(path, "--name", "A")
    assert (code, scorer.records()) == (0, [before])
    assert "scored already." in err
    assert "A" in out
    _, _, err = scorer(path, "--name", "B")
    assert 'already as "A"; --rerun all records them as "B"' in err
    assert scorer.records() == [before]
    scorer(path, "--name", "B", "--rerun", "all")
    (after,) = scorer.records()
    assert after["labels"]["entry"] == "B"
    assert after["metrics"] == before["metrics"]
    assert len(after["attempts"]) == 2


def test_files_of_several_seeds_are_one_row(scorer: Scorer) -> None:
    files = [scorer.write(f"{seed}.json", _results(seed)) for seed in range(3)]
    code, out, _ = scorer(*files, "--name", "seeds", "--json")
    content = json.loads(out)
    assert code == content["exit_code"] == 0
    ((row,),) = (table["rows"] for table in content["leaderboard"])
    assert row["seeds"] == [0, 1, 2]
    records = scorer.records()
    assert len({record["spec"]["weights_sha256"] for record in records}) == 1
    values = [record["metrics"]["APbox"]["value"] for record in records]
    assert row["values"]["APbox"]["mean"] == pytest.approx(np.mean(values))
    (cat, dog) = sorted(content["classes"], key=lambda own: own["name"])
    own = [record["per_class"]["cat"]["APbox"] for record in records]
    assert cat["interval"]["value"] == pytest.approx(np.mean(own))
    assert cat["interval"]["low"] < np.mean(own) < cat["interval"]["high"]
    assert cat["num_objects"] + dog["num_objects"] == 60


def test_rows_are_compared_with_one_another_and_with_nothing_else(
    scorer: Scorer, make_record: Any
) -> None:
    scorer(scorer.write("a.json", _results(0, 0.03)), "--name", "good")
    scorer(scorer.write("b.json", _results(1, 0.4)), "--name", "bad")
    code, out, _ = scorer("good", "bad", command="compare")
    assert code == 0
    assert "good is better than bad" in out
    store = Store(scorer.folder / "runs")
    own = make_record()
    store.folder(own.run_id).path.mkdir()
    store.folder(own.run_id).write_record(own)
    code, out, _ = scorer("good", own.labels.entry, command="compare")
    assert code != 0
    code, out, _ = scorer(command="leaderboard")
    assert out.count("protocol external/v1") == 1
    assert out.count("protocol mini/v1") == 1


def test_nothing_is_recorded_when_one_file_is_refused(scorer: Scorer) -> None:
    good = scorer.write("good.json", _results(0))
    wrong = scorer.write("wrong.json", [{**one, "image_id": 3} for one in _results(1)])
    code, out, err = scorer(good, wrong, "--name", "x")
    assert (code, out) == (4, "")
    assert "wrong.json does not fit the data: 60 of 60 detections have an image_id" in err
    assert len(err.strip().splitlines()) == 1
    assert scorer.records() == []
    assert json.loads(scorer("--json", command="status")[1]) == []


def test_only_the_annotations_of_the_validation_images_have_to_be_there(
    scorer: Scorer, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scorer.write("a.json", _results(0))
    scorer(path, "--name", "A")
    folder = scorer.folder / "coco" / "annotations"
    folder.mkdir(parents=True)
    (scorer.folder / "truth.json").rename(folder / "instances_val2017.json")
    words = ["score", str(path), "--name", "A", "--out", str(scorer.folder / "runs")]
    assert cli.main([*words, "--data", f"coco={folder.parent}"]) == 0
    # The same annotations under another name are the same data.
    assert "scored already" in capsys.readouterr().err


def test_the_task_of_files_is_no_task_of_a_suite(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--tasks", EXTERNAL, "--dry-run"]) == 2
    assert "scored by `run.py score`" in capsys.readouterr().err


def test_the_same_file_twice_is_no_second_seed(scorer: Scorer) -> None:
    first = scorer.write("a.json", _results(0))
    code, _, err = scorer(first, scorer.write("b.json", _results(0)), "--name", "x")
    assert code == 2
    assert "has the same content as" in err


def test_boxes_only_is_a_row_of_its_own(scorer: Scorer) -> None:
    path = scorer.write("a.json", _results(0))
    scorer(path, "--name", "A")
    scorer(path, "--name", "A boxes", "--boxes-only")
    assert len(scorer.records()) == 2


def test_what_a_reader_has_to_know_stands_in_record_and_table(scorer: Scorer) -> None:
    results = _results(0)
    results[0]["score"] = 7.0
    _, out, err = scorer(scorer.write("a.json", results), "--name", "A")
    words = "1 of 60 detections have a score outside 0 to 1"
    assert words in err
    assert words in out
    assert words in scorer.records()[0]["warnings"][0]


def test_an_interrupted_scoring_leaves_no_run(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = scorer.write("a.json", _results(0))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("benchmarks.work.results.finish", stop)
        patched.setattr("benchmarks.work.results.done_record", stop)
        assert scorer(path, "--name", "A")[0] == 130
    assert json.loads(scorer("--json", command="status")[1]) == []
    assert scorer(path, "--name", "A")[0] == 0
    assert len(scorer.records()) == 1


def test_the_page_says_how_to_score_again_and_no_price(scorer: Scorer) -> None:
    path = scorer.write("a.json", _results(0))
    scorer(path, "--name", "my row")
    store = Store(scorer.folder / "runs")
    (record,) = store.scan().records.values()
    told = Repeater().of_record(record, store.folder(record.run_id).read_request())
    truth = scorer.folder / "truth.json"
    assert told["command"].endswith(f"score {path} --name 'my row' --data coco={truth}")
    told = Repeater().of_record(record, None)
    assert str(path) not in told["command"]
    assert paid_hours([record]) is None
