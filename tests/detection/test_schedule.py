"""Epochs, shares and image counts become steps by arithmetic that can be checked by hand."""

from dataclasses import replace

import pytest
import torch

from backbones.training.schedules import Plan
from detection.config import DetectionDataConfig, DetectionOptimConfig, DetectionScheduleConfig
from detection.recipes import COCO_TRAIN_IMAGES, RECIPES
from detection.schedule import Rate, images_in_use, make_plan, num_steps, scaled_lr


def plan_of(name: str, images: int = COCO_TRAIN_IMAGES) -> Plan:
    config = RECIPES[name]()
    return make_plan(config.schedule, config.optim, images)


def rate_of(name: str, images: int = COCO_TRAIN_IMAGES) -> Rate:
    rate = plan_of(name, images).lr_at
    assert isinstance(rate, Rate)
    return rate


def test_published_step_counts() -> None:
    r50 = rate_of("r50-fpn-1x")
    assert (r50.num_steps, r50.drop_steps, r50.warmup_steps) == (90_000, (60_000, 80_000), 1_000)
    assert rate_of("r50-fpn-3x").drop_steps == (210_000, 250_000)
    # 184,375 steps upstream are 100 epochs of 118,000 images; the drops are theirs.
    vitdet = rate_of("vitdet-100ep", 118_000)
    assert (vitdet.num_steps, vitdet.warmup_steps) == (184_375, 250)
    assert vitdet.drop_steps == pytest.approx((163_889, 177_546), abs=1)


def test_any_data_size_and_batch() -> None:
    schedule = DetectionScheduleConfig(epochs=3.0, batch_size=16)
    assert num_steps(schedule, 160) == 30
    assert num_steps(schedule, 1) == 1
    assert images_in_use(DetectionDataConfig(train_fraction=0.01), 1_000) == 10
    assert images_in_use(DetectionDataConfig(train_fraction=0.01), 3) == 1


def test_warm_up_never_outlasts_a_tenth() -> None:
    plan = make_plan(
        DetectionScheduleConfig(epochs=10.0, batch_size=8, warmup_images=10_000),
        DetectionOptimConfig(),
        80,
    )
    assert (plan.num_steps, plan.lr_at.warmup_steps) == (100, 10)


@pytest.mark.parametrize("name", ["vitdet-100ep", "r50-fpn-1x", "benchmarking-vit-25ep"])
def test_rates_equal_detectron2s_scheduler(name: str) -> None:
    from detectron2.solver import LRMultiplier, WarmupParamScheduler
    from fvcore.common.param_scheduler import CosineParamScheduler, MultiStepParamScheduler

    plan, rate = plan_of(name, 2_000), rate_of(name, 2_000)
    if rate.cosine:
        after = CosineParamScheduler(1.0, 0.0)
    else:
        after = MultiStepParamScheduler(
            [1.0, 0.1, 0.01], milestones=list(rate.drop_steps), num_updates=plan.num_steps
        )
    multiplier = WarmupParamScheduler(
        after, rate.warmup_factor, rate.warmup_steps / plan.num_steps, "linear"
    )
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = LRMultiplier(optimizer, multiplier, plan.num_steps)
    for step in range(plan.num_steps):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate.factor(step), rel=1e-6)
        assert plan.lr_at(step / plan.num_steps) == plan.lr * rate.factor(step)
        assert plan.weight_decay_at(step / plan.num_steps) == RECIPES[name]().optim.weight_decay
        optimizer.step()
        scheduler.step()


def test_lr_scaling_is_a_choice() -> None:
    optim = DetectionOptimConfig(base_lr=1e-4, reference_batch_size=64)
    assert scaled_lr(optim, 16) == 1e-4
    assert scaled_lr(replace(optim, lr_scaling="linear"), 16) == pytest.approx(2.5e-5)
    assert scaled_lr(replace(optim, lr_scaling="sqrt"), 16) == pytest.approx(5e-5)


def test_plan_reads_in_steps_and_epochs() -> None:
    text = "\n".join(plan_of("swin-1x").lines())
    assert "117266 images x 12 epochs / batch 16" in text
    assert "epoch 8.0" in text
    assert "epoch 11.0" in text
