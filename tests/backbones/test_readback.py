"""What a training says when its numbers are no numbers, and what makes its settings the same."""

from pathlib import Path

import torch

from backbones.base.monitor import SilentMonitor
from backbones.training.config import OptimConfig, ScheduleConfig
from backbones.training.readback import PendingLosses, Readback
from backbones.training.reporter import Reporter
from backbones.training.schedules import make_plan
from backbones.training.state import StateFolder, settings_digest


def readback_in(folder: Path) -> Readback:
    plan = make_plan(ScheduleConfig(epochs=1.0, batch_size=4), OptimConfig(base_lr=0.64), 40)
    reporter = Reporter(plan, {}, SilentMonitor(), None, "train")
    return Readback(StateFolder(folder, {}), reporter, "Lower optim.base_lr.")


def test_a_forward_that_meets_nan_is_blamed_on_the_first_losses_that_are_no_numbers(
    tmp_path: Path,
) -> None:
    """Losses are read late, so the forward of a later step can be the first to notice."""
    readback = readback_in(tmp_path)
    for step, value in enumerate((1.0, float("nan"), float("inf"))):
        readback.add(PendingLosses(step, ["loss_cls"], 1, torch.tensor([value]), [step, "seven"]))
    message = str(readback.diverged(3, "NaN in proposals", [9]))
    assert "at step 2 (loss_cls = nan; images 1, seven)" in message
    assert message.endswith("No state was saved before. Lower optim.base_lr.")
    assert "NaN in proposals" not in message


def test_a_forward_that_meets_nan_after_sound_losses_names_its_own_images(tmp_path: Path) -> None:
    readback = readback_in(tmp_path)
    readback.add(PendingLosses(0, ["loss_cls"], 1, torch.tensor([1.0]), [1]))
    message = str(readback.diverged(1, "NaN in proposals", [9]))
    assert "at step 2 (NaN in proposals; images 9)" in message


def test_settings_that_change_no_weight_are_left_out_of_the_digest() -> None:
    settings = {"optim": {"lr": 1.0}, "schedule": {"epochs": 2, "every": 3}, "runtime": {"a": 1}}
    outside = {"schedule": ("every",), "runtime": ()}
    digest = settings_digest(settings, outside)
    assert digest == settings_digest({"optim": {"lr": 1.0}, "schedule": {"epochs": 2}}, {})
    settings["schedule"]["every"], settings["runtime"]["a"] = 4, 5
    assert digest == settings_digest(settings, outside)
    settings["optim"]["lr"] = 2.0
    assert digest != settings_digest(settings, outside)
    assert len(digest) == 64
