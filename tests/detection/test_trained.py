"""A trained detector used again: what its own evaluation found, to the last bit."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from PIL import Image

from backbones.base.errors import PreflightError, UserError
from backbones.base.monitor import SilentMonitor
from backbones.spec import BackboneSpec
from detection import traced
from detection.config import DetectionConfig
from detection.data.dataset import find_coco, load_split
from detection.scoring.detections import Detections, read_detections
from detection.traced import NOTES_FILE, export_traced
from detection.trained import (
    TrainedRun,
    export_detector,
    load_detector,
    picture_of,
    predict,
    sample_of,
)
from detection.transfer import STATES, TransferJob, transfer


def _equal(a: Detections, b: Detections) -> bool:
    return (
        np.array_equal(a.image_ids, b.image_ids)
        and np.array_equal(a.boxes, b.boxes)
        and np.array_equal(a.scores, b.scores)
        and np.array_equal(a.classes, b.classes)
        and a.masks == b.masks
    )


@pytest.fixture
def trained(
    write_coco: Callable[..., Path],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
) -> TrainedRun:
    # So low that a detector which hardly learnt finds something.
    config = replace(toy_config, evaluation=replace(toy_config.evaluation, score_threshold=0.0))
    transfer(make_job(write_coco(), tmp_path / "run", plain_spec, config), SilentMonitor())
    return TrainedRun(plain_spec, config, tmp_path / "run", 4, 2, channels_last=True)


def test_predictions_are_those_of_the_runs_own_evaluation(
    trained: TrainedRun, tmp_path: Path
) -> None:
    own = read_detections(tmp_path / "run" / "detections.npz")
    assert len(own) > 0
    assert own.masks is not None
    images = load_split(find_coco(tmp_path / "coco"), "val")
    assert _equal(predict(trained, images, SilentMonitor(), 0), own)
    folder = tmp_path / "coco" / "val2017"
    # What the annotations say of an image is not needed.
    bare = [sample_of(folder / f"{number}.png", number) for number in own.image_ids.tolist()]
    assert _equal(predict(trained, bare, SilentMonitor(), 0), own)


def test_an_exported_detector_comes_back_to_the_bit(trained: TrainedRun, tmp_path: Path) -> None:
    """By detectron2's own checkpointer, into a detector of other weights."""
    count = export_detector(trained, tmp_path / "detector.pth", {"entry": "toy"})
    own = load_detector(trained, torch.device("cpu")).state_dict()
    assert count == len(own)
    assert torch.load(tmp_path / "detector.pth", weights_only=True)["backbench"] == {"entry": "toy"}
    other = load_detector(trained, torch.device("cpu"))
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    DetectionCheckpointer(other).load(str(tmp_path / "detector.pth"))
    found = other.state_dict()
    assert set(found) == set(own)
    assert all(torch.equal(found[name], value) for name, value in own.items())


def test_only_the_state_of_the_last_step_is_the_detector(
    trained: TrainedRun, tmp_path: Path
) -> None:
    images = load_split(find_coco(tmp_path / "coco"), "val")
    with pytest.raises(
        PreflightError, match="a state of step 4, and the detector is that of step 9"
    ):
        predict(replace(trained, num_steps=9), images, SilentMonitor(), 0)
    with pytest.raises(PreflightError, match="of another network"):
        predict(replace(trained, num_classes=5), images, SilentMonitor(), 0)
    for path in (tmp_path / "run" / STATES).glob("step-*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(PreflightError, match="holds no whole state"):
        predict(trained, images, SilentMonitor(), 0)
    shutil.rmtree(tmp_path / "run" / STATES)
    with pytest.raises(PreflightError, match="holds no whole state"):
        predict(trained, images, SilentMonitor(), 0)


def test_a_picture_shows_what_was_found(trained: TrainedRun, tmp_path: Path) -> None:
    sample = sample_of(tmp_path / "coco" / "val2017" / "1.png", 1)
    found = predict(trained, [sample], SilentMonitor(), 0)
    picture_of(tmp_path / "with.png", sample, found, ("cat", "dog"), 0.0)
    picture_of(tmp_path / "without.png", sample, found, ("cat", "dog"), 1.0)
    pixels = [
        np.asarray(Image.open(tmp_path / name), dtype=np.int64)
        for name in ("with.png", "without.png")
    ]
    assert pixels[0].shape == pixels[1].shape
    # Below the caption, which counts them.
    assert (pixels[0][20:] != pixels[1][20:]).any()


def test_unreadable_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(PreflightError, match=r"broken\.png cannot be decoded"):
        sample_of(tmp_path / "broken.png", 1)
    with pytest.raises(PreflightError, match=r"absent\.png cannot be read"):
        sample_of(tmp_path / "absent.png", 1)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize("layout", ["torchscript", "onnx"])
def test_a_graph_finds_what_the_detector_finds(
    trained: TrainedRun, tmp_path: Path, layout: str
) -> None:
    """At a size that it was not traced with, run by torch or onnxruntime only."""
    if layout == "onnx":
        pytest.importorskip("onnx")
        runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "graph"
    written = export_traced(trained, path, layout, {"entry": "toy"})
    assert written.outputs == ("boxes", "classes", "scores", "masks")
    assert "equal to the detector" in written.compared
    image = 255 * torch.rand((3, 40, 56), generator=torch.Generator().manual_seed(3))
    own = load_detector(trained, torch.device("cpu"))
    found = own.inference([{"image": image}], do_postprocess=False)[0]
    assert len(found) > 0
    if layout == "onnx":
        values = runtime.InferenceSession(path.read_bytes()).run(None, {"image": image.numpy()})
        boxes, classes, scores, masks = map(torch.from_numpy, values[:4])
    else:
        notes = {NOTES_FILE: ""}
        boxes, classes, scores, masks = torch.jit.load(path, _extra_files=notes)(image)
        assert json.loads(notes[NOTES_FILE]) == {"entry": "toy"}
    assert boxes.shape == found.pred_boxes.tensor.shape
    # Nearly equal scores may change places; the sums of coordinates and scores may not.
    for one, other in (
        (boxes, found.pred_boxes.tensor),
        (scores, found.scores),
        (masks, found.pred_masks),
    ):
        torch.testing.assert_close(one.sum(), other.sum(), rtol=1e-3, atol=1e-2)
    assert torch.equal(classes.bincount(), found.pred_classes.bincount())


def test_a_graph_that_finds_something_else_is_not_written(
    trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = [torch.zeros(1, 4), torch.zeros(1), torch.zeros(1), torch.zeros(1, 1, 28, 28)]
    monkeypatch.setattr(traced, "_torchscript_runner", lambda content: lambda image: nothing)
    with pytest.raises(UserError, match=r"0 of its [0-9]+ detections are those of its graph"):
        export_traced(trained, tmp_path / "graph", "torchscript", {})

    def fail(*given: object, **options: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(torch.jit, "trace", fail)
    with pytest.raises(UserError, match=r"cannot be written as torchscript \(no such operator\)"):
        export_traced(trained, tmp_path / "graph", "torchscript", {})
    assert not (tmp_path / "graph").exists()
