"""Schedules against the official loops' formulas, written out."""

import math

import numpy as np
import pytest

from backbones.base.errors import UserError
from backbones.training.config import OptimConfig, ScheduleConfig
from backbones.training.schedules import lr_schedule, make_plan, warm_temperature

STEPS = 1000


def rates(schedule, optim):
    at = lr_schedule(schedule, optim)
    return [at(step / STEPS) for step in range(STEPS)]


def test_mae_and_moco_warm_up_then_fall_along_a_half_cosine():
    schedule = ScheduleConfig(epochs=100, warmup_epochs=10, batch_size=512)
    optim = OptimConfig(base_lr=1.5e-4, min_lr=1e-6)
    expected = []
    for step in range(STEPS):
        epoch = step / STEPS * 100
        if epoch < 10:
            expected.append(3e-4 * epoch / 10)
        else:
            cosine = 0.5 * (1 + math.cos(math.pi * (epoch - 10) / 90))
            expected.append(1e-6 + (3e-4 - 1e-6) * cosine)
    assert rates(schedule, optim) == pytest.approx(expected, rel=1e-9)


def test_simmim_enters_its_cosine_after_the_warm_up_at_0_905_of_the_peak():
    schedule = ScheduleConfig(epochs=100, warmup_epochs=20, batch_size=2048, cosine_from_start=True)
    optim = OptimConfig(
        base_lr=2e-4,
        reference_batch_size=512,
        warmup_base_lr=1e-6,
        min_lr=1e-5,
        scale_min_lr=True,
    )
    found = rates(schedule, optim)
    assert found[0] == pytest.approx(4e-6)
    assert found[199] == pytest.approx(4e-6 + (8e-4 - 4e-6) * 199 / 200)
    assert found[200] == pytest.approx(4e-5 + 0.9045 * (8e-4 - 4e-5), rel=1e-4)


def test_simmim_drops_to_a_tenth_at_epoch_700():
    schedule = ScheduleConfig(
        epochs=800, warmup_epochs=10, batch_size=2048, decay="step", drop_epochs=(700,)
    )
    found = rates(schedule, OptimConfig(base_lr=1e-4, reference_batch_size=512))
    assert found[874] == pytest.approx(4e-4)
    assert found[875] == pytest.approx(4e-5)


def test_weight_decay_rises_along_dinos_cosine():
    schedule = ScheduleConfig(epochs=10, batch_size=10, warmup_epochs=1)
    plan = make_plan(schedule, OptimConfig(weight_decay=0.04, weight_decay_end=0.4), 100)
    steps = np.arange(100)
    expected = 0.4 + 0.5 * (0.04 - 0.4) * (1 + np.cos(np.pi * steps / 100))
    found = [plan.weight_decay_at(step / plan.num_steps) for step in steps]
    assert found == pytest.approx(list(expected), rel=1e-12)


def test_temperature_is_that_of_linspace_by_whole_epochs():
    expected = np.concatenate([np.linspace(0.04, 0.07, 30), np.full(10, 0.07)])
    found = [warm_temperature(0.04, 0.07, 30, epoch + 0.99) for epoch in range(40)]
    assert found == pytest.approx(list(expected), rel=1e-12)
    assert warm_temperature(0.04, 0.07, 0, 0.0) == 0.07


def test_epochs_become_steps_and_leave_no_image_over():
    plan = make_plan(ScheduleConfig(epochs=3, batch_size=4, warmup_epochs=1), OptimConfig(), 10)
    assert plan.num_steps == 8  # 30 images in batches of 4: 7.5
    assert plan.step_after(1) == 3
    assert plan.epoch(5) == 2.0


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(UserError, match=r"There are 10 images, fewer than a batch of 16"):
        make_plan(ScheduleConfig(batch_size=16), OptimConfig(), 10)
