"""Trainings that begin with a trained detector."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones.base.errors import PreflightError
from backbones.base.monitor import SilentMonitor
from backbones.checkpoint import FRESH, Checkpoint
from backbones.spec import BackboneSpec
from backbones.weights.loading import build_backbone
from detection.config import DetectionConfig
from detection.data.dataset import find_coco
from detection.model.detector import build_detector
from detection.protocols import build_options
from detection.start import DetectorStart, fill, look_into, planned
from detection.trained import TrainedRun, export_detector, load_detector, state_file
from detection.transfer import TransferJob, transfer

CLASSES = ("cat", "dog")


@dataclass
class Trained:
    """A run of four steps, and its detector as another training begins with it."""

    run: TrainedRun
    root: Path
    start: DetectorStart

    def tensors(self) -> dict[str, Tensor]:
        return load_detector(self.run, torch.device("cpu")).state_dict()

    def fresh(self, num_classes: int = 2, masks: bool = True, **model: Any) -> nn.Module:
        """Return a detector of another seed."""
        config = self.run.config
        config = replace(config, model=replace(config.model, **model)).resolved()
        spec = self.run.spec
        net, _ = build_backbone(
            spec, Checkpoint(spec.name, None, FRESH), build_options(config, spec), 5
        )
        return build_detector(net, spec, config, (num_classes, masks), 5)


@pytest.fixture
def trained(
    write_coco: Callable[..., Path],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
) -> Trained:
    root = write_coco()
    transfer(make_job(root, tmp_path / "run", plain_spec, toy_config), SilentMonitor())
    run = TrainedRun(plain_spec, toy_config, tmp_path / "run", 4, 2, channels_last=True)
    start, _ = look_into(state_file(run.work, 4), CLASSES)
    return Trained(run, root, start)


def test_a_detector_of_the_same_classes_is_taken_whole(trained: Trained) -> None:
    detector, wanted = trained.fresh(), trained.tensors()
    filled = fill(detector, trained.start, CLASSES)
    assert (filled.count, filled.fresh, filled.left) == (len(wanted), (), ())
    found = detector.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


@pytest.mark.parametrize("names", [("bird", "cat", "dog"), ("dog", "cat"), ("bird", "cow")])
def test_layers_by_class_stay_fresh_for_other_classes(
    trained: Trained, names: tuple[str, ...]
) -> None:
    """Also where only the order or the names differ, which no shape tells."""
    detector = trained.fresh(len(names))
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    filled = fill(detector, trained.start, names)
    wanted, found = trained.tensors(), detector.state_dict()
    fresh = {name for name in found if "box_predictor" in name or "mask_head.predictor" in name}
    assert len(fresh) == 6
    for name, value in found.items():
        assert torch.equal(value, before[name] if name in fresh else wanted[name]), name
    assert filled.count == len(wanted) - 6
    assert filled.sentence().endswith(
        f"fresh: the outputs by class (classes here: {', '.join(names)})"
    )


def test_a_mask_head_is_left_out_or_stays_fresh(trained: Trained) -> None:
    boxes_only = trained.fresh(masks=False)
    filled = fill(boxes_only, trained.start, CLASSES)
    assert filled.left == ("the mask head",)
    assert "left out: the mask head" in filled.sentence()
    bare = {k: v for k, v in trained.tensors().items() if "mask_head" not in k}
    path = trained.run.work / "bare.pth"
    notes = {"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}
    torch.save({"model": bare, "backbench": notes}, path)
    start, _ = look_into(path)
    detector = trained.fresh()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    assert fill(detector, start, CLASSES).fresh == ("the mask head",)
    found = detector.state_dict()
    assert all(torch.equal(v, bare.get(name, before[name])) for name, v in found.items())


def test_another_detector_is_refused(trained: Trained) -> None:
    for model, words in (({"box_fcs": (64,)}, "has shape"), ({"rpn_convs": 2}, "of this detector")):
        with pytest.raises(PreflightError, match=words):
            fill(trained.fresh(**model), trained.start, CLASSES)


def test_the_exported_file_is_the_same_detector(trained: Trained, tmp_path: Path) -> None:
    notes = {"categories": [{"id": 2, "name": "cat"}, {"id": 7, "name": "dog"}], "more": 1}
    export_detector(trained.run, tmp_path / "d.pth", notes)
    start, found = look_into(tmp_path / "d.pth")
    assert (start.sha256, start.class_names) == (trained.start.sha256, CLASSES)
    assert found == notes
    torch.save({"model": {}}, tmp_path / "foreign.pth")
    with pytest.raises(PreflightError, match=r"not a detector that run\.py exported"):
        look_into(tmp_path / "foreign.pth")
    content = torch.load(tmp_path / "d.pth")
    content["backbench"] = {"categories": [{"id": 1, "name": "bird"}]}
    torch.save(content, tmp_path / "other.pth")
    assert look_into(tmp_path / "other.pth")[0].sha256 != start.sha256


def test_a_training_begins_with_it_and_says_so(
    trained: Trained, make_job: Callable[..., TransferJob], tmp_path: Path
) -> None:
    run = trained.run
    said = planned(trained.start, run.spec, run.config, find_coco(trained.root), tmp_path / "cache")
    job = make_job(trained.root, tmp_path / "second", run.spec, run.config)
    job = replace(job, start=trained.start)
    outcome = transfer(job, SilentMonitor())
    assert outcome.coverage == outcome.details["weights"] == said.sentence()
    fresh = transfer(
        make_job(trained.root, tmp_path / "third", run.spec, run.config), SilentMonitor()
    )
    assert outcome.curves["loss"][0] < fresh.curves["loss"][0]
    trained.start.path.write_bytes(
        (tmp_path / "second" / "states" / trained.start.path.name).read_bytes()
    )
    with pytest.raises(PreflightError, match="changed since the plan was made"):
        transfer(replace(job, out_dir=tmp_path / "fourth"), SilentMonitor())
