"""A resumed detection training ends bit-identical."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from backbones.base.errors import StoppedError
from backbones.base.files import sha256_file
from backbones.base.monitor import Progress, SilentMonitor
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.training.fitted import Fitted
from detection.config import DetectionConfig
from detection.model.detector import Detector, build_detector
from detection.schedule import make_plan

MakeBatch = Callable[..., list[dict[str, Any]]]
STEPS = 6


class StopAfter(SilentMonitor):
    """Asks to stop once a step is done; keeps what was said and reported."""

    def __init__(self, step: int | None = None) -> None:
        self.step = step
        self.reached = 0
        self.said: list[str] = []
        self.losses: list[float] = []

    def progress(self, progress: Progress) -> None:
        self.reached = progress.step
        assert progress.losses is not None
        self.losses.append(progress.losses["loss"])

    def say(self, text: str) -> None:
        self.said.append(text)

    def should_stop(self) -> bool:
        return self.step is not None and self.reached >= self.step


Start = Callable[..., tuple[Detector, Fitted]]


@pytest.fixture
def start(fit_detector: Callable[..., Fitted]) -> Start:
    """Return a trainer in this process, as a fresh start: 6 steps of two micro-batches."""

    def run(
        name: str, config: DetectionConfig, folder: Path, make: MakeBatch, monitor: SilentMonitor
    ) -> tuple[Detector, Fitted]:
        spec = get_spec(name)
        torch.manual_seed(0)
        net = spec.build(BuildOptions(img_size=64, drop_path=0.3))
        detector = build_detector(net, spec, config, (3, True), seed=0)
        detector = detector.to(memory_format=torch.channels_last)
        config = replace(config, schedule=replace(config.schedule, epochs=STEPS / 2))
        plan = make_plan(config.schedule, config.optim, 8)
        assert plan.num_steps == STEPS
        # Whatever torch's generator held before must not matter.
        torch.manual_seed(torch.seed())
        batches = lambda step: (make(2, seed=i) for i in count(2 * step))  # noqa: E731
        return detector, fit_detector(detector, config, plan, folder, batches, monitor, seed=5)

    return run


def assert_same_weights(first: Detector, second: Detector) -> None:
    theirs = second.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(value, theirs[name]), name


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    ["vit-nano", pytest.param("swin-nano", marks=SLOW), pytest.param("resnet-nano", marks=SLOW)],
)
def test_a_run_stopped_anywhere_ends_bit_identical(
    start: Start, name: str, toy_config: DetectionConfig, toy_batch: MakeBatch, tmp_path: Path
) -> None:
    unbroken, whole = start(name, toy_config, tmp_path / "a", toy_batch, StopAfter())
    for step in (2, 5):
        with pytest.raises(StoppedError, match=f"step {step} of {STEPS}"):
            start(name, toy_config, tmp_path / "b", toy_batch, StopAfter(step))
    resumed, parts = start(name, toy_config, tmp_path / "b", toy_batch, StopAfter())
    assert_same_weights(unbroken, resumed)
    assert whole.curve == parts.curve
    assert whole.warnings() == parts.warnings() == ()
    assert whole.curve["step"] == list(range(1, STEPS + 1))


def test_a_run_resumed_with_other_threads_says_so(
    start: Start, toy_config: DetectionConfig, toy_batch: MakeBatch, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    with pytest.raises(StoppedError):
        start("vit-nano", toy_config, tmp_path, toy_batch, StopAfter(2))
    with pytest.raises(StoppedError):
        start("vit-nano", toy_config, tmp_path, toy_batch, StopAfter(3))
    try:
        torch.set_num_threads(threads + 1)
        _, mixed = start("vit-nano", toy_config, tmp_path, toy_batch, StopAfter())
    finally:
        torch.set_num_threads(threads)
    (warning,) = mixed.warnings()
    assert f"1 x {threads} thread" in warning
    assert f"1 x {threads + 1} threads" in warning
    # A later start that only evaluates adds nothing, and the warning stays.
    _, again = start("vit-nano", toy_config, tmp_path, toy_batch, StopAfter())
    assert again.warnings() == mixed.warnings()


def test_sgd_resumes_bit_identical_too(
    start: Start, toy_config: DetectionConfig, toy_batch: MakeBatch, tmp_path: Path
) -> None:
    optim = replace(toy_config.optim, optimizer="sgd", base_lr=1e-2)
    config = replace(toy_config, optim=optim)
    unbroken, _ = start("vit-nano", config, tmp_path / "a", toy_batch, StopAfter())
    with pytest.raises(StoppedError):
        start("vit-nano", config, tmp_path / "b", toy_batch, StopAfter(3))
    resumed, _ = start("vit-nano", config, tmp_path / "b", toy_batch, StopAfter())
    assert_same_weights(unbroken, resumed)


def test_a_damaged_newest_state_falls_back_and_says_so(
    start: Start, toy_config: DetectionConfig, toy_batch: MakeBatch, tmp_path: Path
) -> None:
    schedule = replace(toy_config.schedule, checkpoint_images=8)
    config = replace(toy_config, schedule=schedule)
    unbroken, _ = start("vit-nano", config, tmp_path / "a", toy_batch, StopAfter())
    with pytest.raises(StoppedError):
        start("vit-nano", config, tmp_path / "b", toy_batch, StopAfter(5))
    states = sorted((tmp_path / "b" / "states").glob("*.safetensors"))
    assert [p.stem for p in states] == ["step-00000004", "step-00000005"]
    states[-1].write_bytes(states[-1].read_bytes()[:-100])
    monitor = StopAfter()
    resumed, _ = start("vit-nano", config, tmp_path / "b", toy_batch, monitor)
    assert "step-00000005.safetensors is damaged" in monitor.said[0]
    assert "from step 4" in monitor.said[1]
    assert_same_weights(unbroken, resumed)


def test_a_finished_training_is_not_repeated(
    start: Start, toy_config: DetectionConfig, toy_batch: MakeBatch, tmp_path: Path
) -> None:
    first, trained = start("vit-nano", toy_config, tmp_path, toy_batch, StopAfter())

    def no_batches(*_: Any, **__: Any) -> Any:
        raise AssertionError

    second, again = start("vit-nano", toy_config, tmp_path, no_batches, StopAfter())
    assert_same_weights(first, second)
    assert (again.curve, again.seconds) == (trained.curve, trained.seconds)


def test_a_state_of_an_earlier_version_is_gone_on_from(
    start: Start, toy_config: DetectionConfig, toy_batch: MakeBatch, tmp_path: Path
) -> None:
    """States were once saved by a loop of detection's own, under the detector's own names."""
    unbroken, whole = start("vit-nano", toy_config, tmp_path / "a", toy_batch, StopAfter())
    with pytest.raises(StoppedError):
        start("vit-nano", toy_config, tmp_path / "b", toy_batch, StopAfter(3))
    path = tmp_path / "b" / "states" / "step-00000003.safetensors"
    record = json.loads(path.with_suffix(".json").read_text())
    save_file({n.replace("model.detector.", "model."): t for n, t in load_file(path).items()}, path)
    record["sha256"] = sha256_file(path)
    known = ("curve", "window", "seconds", "timed")
    record["notes"] = {name: record["notes"][name] for name in known}
    del record["checksum"]
    path.with_suffix(".json").write_text(json.dumps(record))
    monitor = StopAfter()
    resumed, parts = start("vit-nano", toy_config, tmp_path / "b", toy_batch, monitor)
    assert monitor.said == [f"Going on from step 3 of {STEPS}."]
    assert_same_weights(unbroken, resumed)
    assert whole.curve == parts.curve
