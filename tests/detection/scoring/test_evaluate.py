import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from backbones.base.errors import StoppedError, UserError
from backbones.base.monitor import Progress, SilentMonitor
from detection.config import EvaluationConfig
from detection.data.dataset import CocoData, find_coco, load_split
from detection.scoring.detections import read_detections
from detection.scoring.evaluate import EvaluationOptions, detect, evaluate

CONFIG = EvaluationConfig(short_side=48, max_size=64, batch_size_per_device=3)


class Oracle(nn.Module):
    """A detector that knows the answers, to the extent that it is told."""

    def __init__(self, data: CocoData, *, split: Any = "val", score: float = 0.9) -> None:
        super().__init__()
        self.truth = {image["image_id"]: image for image in load_split(data, split)}
        self.score = score
        self.weight = nn.Parameter(torch.ones(1))
        self.modes: list[bool] = []

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        self.modes += [self.training, torch.is_grad_enabled()]
        return [{"instances": self._answer(self.truth[item["image_id"]])} for item in batch]

    def _answer(self, image: dict[str, Any]) -> Instances:
        size = (image["height"], image["width"])
        objects = image["annotations"]
        boxes = torch.tensor([a["bbox"] for a in objects]).reshape(-1, 4) * self.weight
        boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)
        masks: Tensor = torch.zeros((len(objects), *size), dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.long().tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        found = Instances(size)
        found.pred_boxes = Boxes(boxes)
        found.scores = torch.full((len(objects),), self.score)
        found.pred_classes = torch.tensor([a["category_id"] for a in objects], dtype=torch.int64)
        found.pred_masks = masks
        return found


class Watcher(SilentMonitor):
    def __init__(self, stop_after: int = 10**9) -> None:
        self.seen: list[Progress] = []
        self.stop_after = stop_after

    def progress(self, progress: Progress) -> None:
        self.seen.append(progress)

    def should_stop(self) -> bool:
        return len(self.seen) >= self.stop_after


@pytest.fixture
def data(write_coco: Callable[..., Path], coco_content: Callable[..., Any]) -> CocoData:
    return find_coco(write_coco(coco_content(5), coco_content(7)))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_answers_score_100(tmp_path: Path, data: CocoData, num_workers: int) -> None:
    model = Oracle(data).train()
    watcher = Watcher()
    options = EvaluationOptions(num_workers=num_workers)
    found = evaluate(model, data, CONFIG, tmp_path, watcher, options)
    assert found.metrics["APbox"] == pytest.approx(100)
    assert found.metrics["APmask"] == pytest.approx(100)
    assert found.metrics["APlbox"] is None
    assert found.per_class["cat"]["APmask"] == pytest.approx(100)
    assert found.images_per_second > 0
    assert found.num_images == 7
    assert model.training
    assert not any(model.modes)
    assert [(p.phase, p.step, p.num_steps) for p in watcher.seen] == [
        ("evaluate", 3, 7),
        ("evaluate", 6, 7),
        ("evaluate", 7, 7),
    ]


def test_detections_are_kept_in_pixels_of_the_file(tmp_path: Path, data: CocoData) -> None:
    found = evaluate(Oracle(data), data, CONFIG, tmp_path / "new", SilentMonitor())
    kept = read_detections(found.detections_file)
    assert found.detections_file.parent == tmp_path / "new"
    assert kept.image_ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert kept.boxes[0].tolist() == [10, 10, 40, 30]
    assert kept.sizes[0].tolist() == [48, 64]
    assert kept.masks is not None


def test_evaluators_agree(tmp_path: Path, data: CocoData) -> None:
    results = [
        evaluate(Oracle(data), data, CONFIG, tmp_path, SilentMonitor(), EvaluationOptions(name))
        for name in ("hotcoco", "pycocotools")
    ]
    assert results[0].metrics == results[1].metrics
    assert results[1].evaluator.startswith("pycocotools 2")


def test_training_split_and_limit(tmp_path: Path, data: CocoData) -> None:
    config = EvaluationConfig(split="train", short_side=48, max_size=64)
    oracle = Oracle(data, split="train")
    found = evaluate(oracle, data, config, tmp_path, SilentMonitor())
    assert (found.num_images, found.metrics["APbox"]) == (5, pytest.approx(100))
    options = EvaluationOptions(limit_images=2)
    limited = evaluate(oracle, data, config, tmp_path, SilentMonitor(), options)
    assert (limited.num_images, limited.metrics["APbox"]) == (2, pytest.approx(100))


def test_a_stop_leaves_nothing_written(tmp_path: Path, data: CocoData) -> None:
    with pytest.raises(StoppedError, match="after 3 of 7 images"):
        evaluate(Oracle(data), data, CONFIG, tmp_path / "out", Watcher(stop_after=1))
    assert not (tmp_path / "out").exists()


def test_unknown_evaluator_is_refused_before_the_work(tmp_path: Path, data: CocoData) -> None:
    oracle, options = Oracle(data), EvaluationOptions("cocoapi")
    with pytest.raises(UserError, match="cocoapi"):
        evaluate(oracle, data, CONFIG, tmp_path, SilentMonitor(), options)
    assert not oracle.modes


def test_scores_that_are_no_numbers_are_refused(tmp_path: Path, data: CocoData) -> None:
    with pytest.raises(UserError, match="diverged"):
        evaluate(Oracle(data, score=float("nan")), data, CONFIG, tmp_path, SilentMonitor())
    assert not list(tmp_path.glob("*.npz"))


ONE_OF_TWO = """
import sys
from pathlib import Path
from backbones.base import distributed
from backbones.base.monitor import SilentMonitor
from detection.data.dataset import find_coco
from detection.scoring.evaluate import evaluate
sys.path.insert(0, {tests!r})
from test_evaluate import CONFIG, Oracle
distributed.join_process_group()
data = find_coco(Path({root!r}))
found = evaluate(Oracle(data), data, CONFIG, Path({out!r}), SilentMonitor())
assert abs(found.metrics["APbox"] - 100) < 1e-9, found.metrics
assert found.num_images == 7
assert found.images_per_second > 0
distributed.barrier()
distributed.leave_process_group()
"""


@pytest.mark.slow
def test_two_real_processes_find_the_same(tmp_path: Path, data: CocoData) -> None:
    alone = evaluate(Oracle(data), data, CONFIG, tmp_path / "alone", SilentMonitor())
    here = Path(__file__).resolve()
    code = ONE_OF_TWO.format(tests=str(here.parent), root=str(data.root), out=str(tmp_path / "two"))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    shared["PYTHONPATH"] = str(here.parents[3])
    started = [
        subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **shared, "RANK": rank})
        for rank in ("0", "1")
    ]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    together = (tmp_path / "two" / "detections.npz").read_bytes()
    assert together == alone.detections_file.read_bytes()


def test_processes_share_the_images(data: CocoData, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for rank in range(2):
        monkeypatch.setattr("detection.scoring.evaluate.distributed.rank", lambda rank=rank: rank)
        monkeypatch.setattr("detection.scoring.evaluate.distributed.world_size", lambda: 2)
        monkeypatch.setattr("detection.scoring.evaluate.distributed.any_rank", bool)
        watcher = Watcher()
        images, _ = detect(Oracle(data), load_split(data, "val"), CONFIG, watcher)
        found.append([image.image_id for image in images])
        # As many turns on every process, because they agree on stopping in each.
        assert len(watcher.seen) == 2
    assert found == [[1, 3, 5, 7], [2, 4, 6]]
