"""What speed is compared with computes the same losses, and moves teacher and centres alike."""

from dataclasses import replace

import pytest
import torch

from backbones.spec import BuildOptions
from backbones.timm_networks.families import build_timm
from backbones.training.objective import Moment
from backbones.vit.config import ViTConfig
from backbones.vit.network import VisionTransformer
from benchmarks.perf.plain_esvit import PlainEsViT
from benchmarks.perf.plain_mae import PlainMAE
from benchmarks.perf.plain_pretraining import plain_step
from pretrain.catalog import get_recipe
from pretrain.methods.esvit import EsViTObjective
from pretrain.methods.mae import MAEObjective
from pretrain.parts.distilled.distillation import DistillationBranch
from pretrain.recipes.esvit import EsViTConfig
from pretrain.recipes.mae import MAEConfig
from tests.parity.distillation import crops_of


def mae():
    torch.manual_seed(0)
    shape = ViTConfig(16, 2, 2, patch_size=4, positions="sincos")
    vit = VisionTransformer(shape, BuildOptions(img_size=16))
    objective = MAEObjective(vit, MAEConfig(decoder_dim=8, decoder_layers=2, decoder_heads=2), 16)
    config = get_recipe("mae-nano")
    batch = {"image": torch.randn(3, 3, 16, 16), "noise": torch.rand(3, 16)}
    return (
        objective.double(),
        replace(config, data=replace(config.data, img_size=16)),
        {name: value.double() for name, value in batch.items()},
    )


def esvit(region_weight=0.5):
    torch.manual_seed(0)
    # Whole windows everywhere: timm's own blocks pad otherwise.
    shape = {"embed_dim": 8, "depths": (1, 2), "num_heads": (1, 2), "window_size": 2}
    nets = [
        build_timm("swin_tiny_patch4_window7_224", BuildOptions(img_size=32), **shape)
        for _ in range(2)
    ]
    small = EsViTConfig(
        num_prototypes=9,
        hidden_dim=12,
        bottleneck_dim=6,
        drop_path=0.0,
        region_weight=region_weight,
    )
    objective = EsViTObjective(
        *(DistillationBranch(n, 16, small, regions=region_weight > 0) for n in nets), small
    )
    return objective.double(), get_recipe("esvit-nano"), crops_of(2, (32, 32), (16, 16), 2)


def test_mae():
    objective, config, batch = mae()
    plain = PlainMAE(objective, config)
    (loss,) = objective(batch).values()
    torch.testing.assert_close(plain(batch), loss, rtol=1e-9, atol=0)


@pytest.mark.parametrize("region_weight", [0.5, 0.0])
def test_esvit(region_weight):
    objective, config, batch = esvit(region_weight)
    other, _, _ = esvit(region_weight)
    with torch.no_grad():  # a student that has left its teacher
        for ours, theirs in zip(
            objective.student.parameters(), other.student.parameters(), strict=True
        ):
            ours += 0.1 * torch.randn_like(ours)
            theirs.copy_(ours)
    plain = PlainEsViT(other, config)
    for _ in range(2):
        losses = objective(batch)
        objective.after_update(Moment(step=0, num_steps=10, epoch=0.0))
        torch.testing.assert_close(plain(batch), sum(losses.values()), rtol=1e-9, atol=0)
        plain.after_update()
    torch.testing.assert_close(plain.centers[0], objective.view_center)
    pairs = zip(plain.teacher.parameters(), objective.teacher.parameters(), strict=True)
    for theirs, ours in pairs:
        torch.testing.assert_close(theirs, ours)


def test_a_step_of_mae_lowers_the_loss():
    objective, config, batch = mae()
    step = plain_step(objective, config, batch)
    losses = [step() for _ in range(10)]
    assert losses[-1] < losses[0]


def test_a_step_of_esvit_moves_student_and_teacher():
    objective, config, batch = esvit()
    step = plain_step(objective, config, batch)
    weights = [branch.head.mlp[0].weight for branch in (objective.student, objective.teacher)]
    before = [weight.clone() for weight in weights]
    step()
    moved = [(now - old).abs().max() for now, old in zip(weights, before, strict=True)]
    assert 0 < moved[1] < moved[0]
