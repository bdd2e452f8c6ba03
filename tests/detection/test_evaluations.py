"""Evaluations during training: a curve of AP, and nothing else that changes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from backbones.base.errors import StoppedError
from backbones.base.monitor import Progress, SilentMonitor
from backbones.catalog import get_spec
from backbones.spec import BackboneSpec
from detection.config import DetectionConfig, EvaluationConfig
from detection.evaluations import Evaluations, period, told
from detection.recipes import COCO_TRAIN_IMAGES, RECIPES
from detection.schedule import images_in_use, make_plan
from detection.scoring import evaluate
from detection.scoring.cocoeval import CocoScores
from detection.transfer import TransferJob, TransferResult, transfer

SLOW = pytest.mark.slow
STEP, AP_BOX, AP_MASK = "evaluation/step", "evaluation/APbox", "evaluation/APmask"


class Watcher(SilentMonitor):
    """Hears everything; asks to stop when ``stop`` says so of what it has heard."""

    def __init__(self, stop: Callable[["Watcher"], bool] = lambda watcher: False) -> None:
        self.phases: list[str] = []
        self.said: list[str] = []
        self.step = 0
        self._stop = stop

    def progress(self, progress: Progress) -> None:
        self.phases.append(progress.phase)
        if progress.phase == "train":
            self.step = progress.step

    def say(self, text: str) -> None:
        self.said.append(text)

    def should_stop(self) -> bool:
        return self._stop(self)


def every_step(config: DetectionConfig) -> DetectionConfig:
    """Evaluate after each of the four steps, which are an epoch each."""
    return replace(config, evaluation=replace(config.evaluation, every_epochs=1.0))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "states" / "step-00000004.safetensors")


def assert_same_result(
    one: TransferResult, other: TransferResult, folders: tuple[Path, Path]
) -> None:
    first, second = map(weights_of, folders)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert one.metrics == other.metrics
    assert one.detections_file.read_bytes() == other.detections_file.read_bytes()
    assert one.curves["loss"] == other.curves["loss"]


@pytest.mark.parametrize(
    "name",
    ["vit-nano", pytest.param("swin-nano", marks=SLOW), pytest.param("resnet-nano", marks=SLOW)],
)
def test_evaluations_change_no_weight_and_no_result(
    name: str,
    write_coco: Callable[..., Path],
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
) -> None:
    root, spec = write_coco(), get_spec(name)
    without = transfer(make_job(root, tmp_path / "a", spec, toy_config), Watcher())
    watcher = Watcher()
    looked = transfer(make_job(root, tmp_path / "b", spec, every_step(toy_config)), watcher)
    assert_same_result(without, looked, (tmp_path / "a", tmp_path / "b"))
    assert not any(series.startswith("evaluation/") for series in without.curves)
    assert looked.curves[STEP] == [1, 2, 3, 4]
    assert looked.curves[AP_BOX][-1] == looked.metrics["APbox"]
    assert looked.curves[AP_MASK][-1] == looked.metrics["APmask"]
    assert len(looked.curves[AP_BOX]) == len(looked.curves[AP_MASK]) == 4
    assert watcher.phases[:4] == ["train", "evaluate", "evaluate", "train"]
    assert [text for text in watcher.said if text.startswith("after step 2 of 4: APbox ")]


@pytest.fixture
def telling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the APbox of an evaluation on the way tell whose it is: few steps teach nothing."""

    def look(detector: torch.nn.Module, *rest: Any) -> CocoScores:
        scores = evaluate.look(detector, *rest)
        total = sum(value.double().abs().sum().item() for value in detector.state_dict().values())
        return replace(scores, metrics={**scores.metrics, "APbox": total})

    monkeypatch.setattr("detection.transfer.look", look)


@pytest.mark.usefixtures("telling")
@pytest.mark.parametrize("within", [False, True], ids=["before", "within"])
def test_a_stop_neither_loses_nor_doubles_a_point(
    within: bool,
    write_coco: Callable[..., Path],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
) -> None:
    """Before the evaluation of a step that nothing has saved, or in the middle of it."""
    root, config, step = write_coco(), every_step(toy_config), 2
    whole = transfer(make_job(root, tmp_path / "a", plain_spec, config), Watcher())
    assert len(set(whole.curves[AP_BOX])) == 4
    job = make_job(root, tmp_path / "b", plain_spec, config)

    def stop(watcher: Watcher) -> bool:
        return watcher.step == step and (not within or watcher.phases[-1] == "evaluate")

    where = f"in the evaluation after step {step}; saved" if within else f"after step {step} of 4"
    with pytest.raises(StoppedError, match=where):
        transfer(job, Watcher(stop))
    states = sorted(path.stem for path in (tmp_path / "b" / "states").glob("*.safetensors"))
    assert states == [f"step-{step:08d}"]
    watcher = Watcher()
    resumed = transfer(job, watcher)
    assert f"Going on from step {step} of 4." in watcher.said
    assert watcher.phases[0] == "evaluate", "the one that was missed is made up for"
    assert resumed.curves == whole.curves
    assert_same_result(whole, resumed, (tmp_path / "a", tmp_path / "b"))


@pytest.mark.usefixtures("telling")
def test_a_run_killed_behind_an_evaluation_makes_it_again_once(
    write_coco: Callable[..., Path],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
) -> None:
    schedule = replace(toy_config.schedule, checkpoint_images=8)
    root, config = write_coco(), every_step(replace(toy_config, schedule=schedule))
    whole = transfer(make_job(root, tmp_path / "a", plain_spec, config), Watcher())
    job = make_job(root, tmp_path / "b", plain_spec, config)

    class Killed(Watcher):
        def progress(self, progress: Progress) -> None:
            super().progress(progress)
            if self.step == 3 and progress.phase == "evaluate":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer(job, Killed())
    resumed = transfer(job, Watcher())
    assert resumed.curves == whole.curves


def test_evaluations_are_no_part_of_what_training_costs(
    write_coco: Callable[..., Path],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clock that only evaluations move."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def slow(*given: Any) -> CocoScores:
        now[0] += 100.0
        return evaluate.look(*given)

    monkeypatch.setattr("detection.transfer.look", slow)
    job = make_job(write_coco(), tmp_path / "a", plain_spec, every_step(toy_config))
    cost = transfer(job, Watcher()).cost
    assert cost["seconds_evaluating"] == 300.0
    assert cost["seconds"] == 0.0
    assert cost["images_per_second_train"] is None


def test_switched_on_in_the_middle_a_run_goes_on(
    write_coco: Callable[..., Path],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
) -> None:
    job = make_job(write_coco(), tmp_path / "run", plain_spec, toy_config)
    with pytest.raises(StoppedError):
        transfer(job, Watcher(lambda watcher: watcher.step == 2))
    outcome = transfer(replace(job, config=every_step(toy_config)), Watcher())
    assert outcome.curves[STEP] == [2, 3, 4]


def test_tensorboard_has_the_curve_to_its_end(
    write_coco: Callable[..., Path],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
) -> None:
    job = make_job(write_coco(), tmp_path / "run", plain_spec, every_step(toy_config))
    outcome = transfer(job, Watcher())
    events = EventAccumulator(str(job.out_dir / "tensorboard")).Reload()
    points = {event.step: event.value for event in events.Scalars(AP_BOX)}
    assert list(points)[-1] == 4
    assert points[4] == pytest.approx(outcome.metrics["APbox"])


@pytest.mark.slow
def test_two_processes_evaluate_together(
    write_coco: Callable[..., Path],
    launch_together: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    data, launch = str(write_coco()), partial(launch_together, "ddp_evaluations_run.py")
    without = launch(2, [data, str(tmp_path / "a"), "0"])
    looked = launch(2, [data, str(tmp_path / "b"), "1"])
    assert looked["weights"] == without["weights"]
    assert looked["metrics"] == without["metrics"]
    assert looked["curves"][STEP] == [1, 2, 3]
    alone = launch(1, [data, str(tmp_path / "c"), "1"])
    assert alone["curves"][STEP] == [1, 2, 3]
    stopped = launch(2, [data, str(tmp_path / "d"), "1", "2"])
    assert stopped == {"stopped": "Stopped in the evaluation after step 2; saved."}
    resumed = launch(2, [data, str(tmp_path / "d"), "1"])
    assert resumed == looked


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_recipes_are_looked_at_as_often_as_upstream(recipe: str) -> None:
    config = RECIPES[recipe]().resolved()
    images = images_in_use(config.data, COCO_TRAIN_IMAGES)
    every = period(config.evaluation, make_plan(config.schedule, config.optim, images))
    # Recipes of ours, which follow nobody.
    if recipe.startswith("mini") or recipe == "small":
        assert every == 0
    elif recipe.startswith("swin"):
        assert every == pytest.approx(COCO_TRAIN_IMAGES / 16, abs=16)
    else:
        assert every == pytest.approx(5_000, abs=16)


def test_when_evaluations_are_due() -> None:
    plan = make_plan(RECIPES["mini"]().schedule, RECIPES["mini"]().optim, 80)
    every = period(EvaluationConfig(every_epochs=1.5), plan)
    assert (plan.num_steps, every) == (90, 30)
    evaluations = Evaluations(every, dict, plan.num_steps, SilentMonitor())
    assert [step for step in range(91) if evaluations.due(step)] == [30, 60, 90]
    evaluations.add(60, {"APbox": 1.0})
    assert [step for step in range(91) if evaluations.due(step)] == [30, 90]
    assert told(every, plan) == "every 30 steps of training, 2 times, and at the end"
    assert period(EvaluationConfig(every_epochs=1e-9), plan) == 1
    assert told(0, plan) == told(90, plan) == "at the end"
    assert not Evaluations(0, dict, plan.num_steps, SilentMonitor()).due(30)
