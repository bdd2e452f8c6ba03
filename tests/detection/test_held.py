"""A detector's losses and gradients do not depend on how many images a device holds at once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling.proposal_generator import proposal_utils

from backbones.base.monitor import SilentMonitor
from backbones.spec import BackboneSpec, BuildOptions
from backbones.training.engine import _Loop
from backbones.training.objective import Moment
from backbones.training.reporter import Reporter
from backbones.training.state import StateFolder
from backbones.training.stream import Loaded
from detection.config import DetectionConfig
from detection.model.detector import build_detector
from detection.objective import DetectionObjective, detector_groups, make_training
from detection.protocols import held
from detection.schedule import make_plan

BATCH = 8


def step(
    spec: BackboneSpec, config: DetectionConfig, images: int, batch: list[Any], folder: Path
) -> dict[str, torch.Tensor]:
    """Return losses and gradients of one step in double precision, ``images`` at once."""
    config = replace(config, schedule=replace(config.schedule, micro_batch=images))
    torch.manual_seed(0)
    net = spec.build(BuildOptions(img_size=64, drop_path=0.3))
    detector = build_detector(net, spec, config, (3, True), seed=0).double()
    objective = DetectionObjective(detector, config.optim)
    groups = detector_groups(objective, config.optim)
    plan = make_plan(config.schedule, config.optim, BATCH)
    training = make_training(objective, groups, plan, config, seed=1)
    reporter = Reporter(plan, {}, SilentMonitor(), None, "test")
    loop = _Loop(training, StateFolder(folder, {}), reporter, SilentMonitor())
    parts = (
        Loaded({"samples": batch[i : i + images]}, [i])  # type: ignore[dict-item]
        for i in range(0, BATCH, images)
    )
    objective.train()
    objective.begin_step(Moment(0, 1, 0.0))
    pending = loop._backward(0, parts)
    gradients = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
    return {"losses": pending.values[: pending.num_losses], **gradients}


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let detectron2 suppress boxes whose scores are double numbers."""
    single = proposal_utils.batched_nms
    monkeypatch.setattr(
        proposal_utils,
        "batched_nms",
        lambda boxes, scores, *rest: single(boxes, scores.float(), *rest),
    )


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("detector", ["mask-rcnn", "cascade-mask-rcnn"])
def test_a_step_is_the_same_whatever_is_held_at_once(
    detector: Any,
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    toy_batch: Callable[..., list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    schedule = replace(toy_config.schedule, batch_size=BATCH)
    model = replace(toy_config.model, detector=detector)
    config = replace(toy_config, schedule=schedule, model=model).resolved()
    # Images with one object to four: so losses averaged over all of them are not the mean of means.
    batch = toy_batch(BATCH)
    for number, item in enumerate(batch):
        item["instances"] = item["instances"][: 1 + number % 2]
    allowed = held(config, plain_spec)
    assert [n for n in range(1, 9) if allowed.allows(n)] == [2, 4, 6, 8]
    expected = step(plain_spec, config, 2, batch, tmp_path)
    assert any("mask_head" in name for name in expected)
    for images in (4, 8):
        found = step(plain_spec, config, images, batch, tmp_path)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(
                found[key], value, rtol=1e-6, atol=1e-9, msg=f"{key} {images}"
            )
    one = step(
        plain_spec,
        replace(config, schedule=replace(schedule, batch_size_per_device=1)),
        1,
        batch,
        tmp_path,
    )
    assert not torch.allclose(one["losses"], expected["losses"], rtol=1e-4)


def test_what_couples_images_fixes_their_number(
    plain_spec: BackboneSpec, toy_config: DetectionConfig
) -> None:
    def fixed(config: DetectionConfig, spec: BackboneSpec = plain_spec) -> str:
        return held(config, spec).fixed

    loose = replace(toy_config, data=replace(toy_config.data, square=False))
    assert "padded to the largest" in fixed(loose)
    normed = replace(plain_spec, name="resnet-nano", batch_norm=True)
    assert "resnet-nano has batch norms" in fixed(toy_config, normed)
    frozen = replace(toy_config, model=replace(toy_config.model, freeze_batchnorm=True))
    assert not fixed(frozen, normed)
    heads = replace(toy_config, model=replace(toy_config.model, head_norm="BN"))
    assert "batch norms" in fixed(heads)
