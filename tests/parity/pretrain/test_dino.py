"""DINO against its formulas in float64: loss, gradients, centre, teacher, layouts."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from backbones.base.errors import PreflightError, UserError
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.training.objective import Moment
from backbones.vit.config import ViTConfig
from backbones.vit.network import VisionTransformer
from pretrain.catalog import get_recipe
from pretrain.distillation_config import DistillationConfig
from pretrain.method import get_method
from pretrain.methods.dino import DINOObjective
from pretrain.parts.distilled import prototype_loss
from pretrain.parts.distilled.distillation import DistillationBranch
from pretrain.parts.views.photometric import DINO_GLOBAL_1, DINO_GLOBAL_2, DINO_LOCAL
from pretrain.recipes.dino import DINOConfig
from tests.parity.distillation import (
    cosine_to_1,
    crops_of,
    distance,
    encoded,
    entropy,
    logits,
)

PLAIN = ViTConfig(16, 2, 2, patch_size=4)
SMALL = DINOConfig(
    num_prototypes=11,
    hidden_dim=12,
    bottleneck_dim=6,
    norm_last_layer=False,
    teacher_temperature=0.07,
    warmup_teacher_temperature=0.05,
    warmup_teacher_epochs=3,
)


def branch(config: DistillationConfig) -> DistillationBranch:
    backbone = VisionTransformer(PLAIN, BuildOptions(img_size=16))
    return DistillationBranch(backbone, 16, config, regions=False)


def plain(config: DINOConfig = SMALL) -> DINOObjective:
    torch.manual_seed(0)
    objective = DINOObjective(branch(config), branch(config), config)
    torch.nn.init.normal_(objective.view_center)
    return objective


def encode(backbone, weights, image):
    features = torch.func.functional_call(backbone, weights, (image,), {"num_last_blocks": 1})
    return features.pooled, features.patch_tokens[-1]


def loss_of(objective, w, batch, temperatures=(0.1, 0.05), **measured):
    student, _ = encoded(objective, w, batch, "student", encode)
    teacher, _ = encoded(objective, w, batch, "teacher", encode)
    return distance(w, student, teacher, "view", temperatures, **measured)


@pytest.mark.parametrize(
    ("count", "large", "small", "num_local"),
    [(2, (16, 16), (8, 8), 3), (1, (16, 24), (8, 12), 1), (3, (16, 8), (), 0)],
)
def test_loss_and_gradients(parity, count, large, small, num_local):
    objective = parity.randomised(plain())
    batch = crops_of(count, large, small, num_local)
    parity.compare(objective, batch, lambda w: loss_of(objective, w, batch))


def test_loss_is_the_teachers_entropy_and_a_divergence(parity):
    objective, batch = parity.randomised(plain()), crops_of(2, (16, 16), (8, 8), 3)
    loss = objective(batch)["view"]
    found = objective.metrics()
    expected = loss_of(objective, objective.state_dict(), batch, measure=entropy)
    torch.testing.assert_close(found["view_entropy"], expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(found["view_divergence"], loss.detach() - expected)
    assert found["view_divergence"] > 0
    assert not any(value.requires_grad for value in found.values())


def test_nothing_diverges_where_the_student_is_the_teacher():
    config = replace(SMALL, student_temperature=0.05)
    objective = plain(config).double()
    objective.view_center.zero_()
    crop = crops_of(2, (16, 16), (), 0)["global"][:, :1].expand(-1, 2, -1, -1, -1)
    objective({"global": crop})
    found = objective.metrics()
    assert found["view_divergence"].item() == pytest.approx(0.0, abs=1e-12)
    assert 0 < found["view_entropy"] < math.log(config.num_prototypes)


def test_loss_in_float32():
    objective, batch = plain(), crops_of(4, (16, 16), (8, 8), 4)
    single = {k: v.float() for k, v in batch.items()}
    found = objective(single)["view"].item()
    assert found == pytest.approx(objective.double()(batch)["view"].item(), rel=1e-6)


@pytest.mark.parametrize("chunk", [1, 40, 170, 2**20])
def test_portions_change_nothing(monkeypatch, parity, chunk):
    """One row at a time, part of an image, one image, all."""
    batch = crops_of(3, (16, 16), (8, 8), 3)
    objective = parity.randomised(plain())
    weights = [p for p in objective.parameters() if p.requires_grad]
    expected = objective(batch)["view"]
    wanted = torch.autograd.grad(expected, weights)
    monkeypatch.setattr(prototype_loss, "CHUNK", chunk)
    loss = objective(batch)["view"]
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for mine, theirs in zip(torch.autograd.grad(loss, weights), wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-13)


def test_half_precision_comes_near():
    objective = plain()
    batch = {k: v.float() for k, v in crops_of(4, (16, 16), (8, 8), 4).items()}
    expected = objective(batch)["view"]
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(batch)["view"]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)
    loss.backward()
    gradient = objective.student.head.last_layer.weight_v.grad
    expected.backward()
    both = objective.student.head.last_layer.weight_v.grad
    torch.testing.assert_close(2 * gradient, both, rtol=1, atol=0.1 * float(both.abs().max()))


def test_centre_follows_all_raw_logits_of_the_step_and_the_teacher_all_parameters(parity):
    objective = parity.randomised(plain())
    before = {k: v.clone() for k, v in objective.state_dict().items()}
    micro = [crops_of(2, (16, 16), (8, 8), 1, seed) for seed in (1, 2)]
    for batch in micro:
        objective(batch)
    rows = [
        logits(view[0], before, "teacher.head")
        for batch in micro
        for image in encoded(objective, before, batch, "teacher", encode)[0]
        for view in image
    ]
    objective.after_update(Moment(step=3, num_steps=10, epoch=0.0))
    center = 0.9 * before["view_center"] + 0.1 * sum(rows) / len(rows)
    torch.testing.assert_close(objective.view_center, center, rtol=1e-10, atol=1e-12)
    momentum = cosine_to_1(0.996, 0.3)
    student = dict(objective.student.named_parameters())
    for name, value in objective.teacher.named_parameters():
        expected = momentum * before[f"teacher.{name}"] + (1 - momentum) * student[name].detach()
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)


def test_teacher_temperature_rises_by_epochs():
    objective = plain()
    seen = []
    for epoch in (0.0, 0.9, 1.0, 2.5, 3.0, 50.0):
        objective.begin_step(Moment(0, 10, epoch))
        seen.append(objective.teacher_temperature)
    assert seen == pytest.approx([0.05, 0.05, 0.06, 0.07, 0.07, 0.07])
    batch = crops_of(1, (16, 16), (8, 8), 1)
    objective = objective.double()
    expected = loss_of(objective, objective.state_dict(), batch, (0.1, 0.07))
    torch.testing.assert_close(objective(batch)["view"], expected, rtol=1e-10, atol=0)


def test_prototypes_rest_in_the_first_epoch():
    objective = plain()
    for epoch, rests in ((0.99, True), (1.0, False)):
        objective.zero_grad()
        batch = {k: v.float() for k, v in crops_of(1, (16, 16), (8, 8), 1).items()}
        objective(batch)["view"].backward()
        objective.before_update(Moment(0, 10, epoch))
        without = [n for n, p in objective.student.named_parameters() if p.grad is None]
        assert without == (
            ["head.last_layer.weight_g", "head.last_layer.weight_v"] if rests else []
        )


def test_what_is_trained_and_what_is_saved():
    objective = plain(replace(SMALL, norm_last_layer=True))
    fixed = [name for name, p in objective.named_parameters() if not p.requires_grad]
    teachers = [f"teacher.{name}" for name, _ in objective.teacher.named_parameters()]
    assert sorted(fixed) == sorted([*teachers, "student.head.last_layer.weight_g"])
    assert objective.backbone is objective.teacher.backbone
    objective = plain(replace(SMALL, saved="student"))
    assert objective.backbone is objective.student.backbone
    own, other = objective.student.state_dict(), objective.teacher.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)


def test_stochastic_depth_is_the_students_alone():
    config = get_recipe("dino-nano")
    config = replace(config, model=replace(config.model, drop_path=0.3))
    objective = get_method("dino").build(get_spec("vit-nano"), config).train()
    batch = {k: v.float() for k, v in crops_of(2, (64, 64), (32, 32), 1).items()}
    one, two = (
        [branch(batch["global"], regions=False)[0] for _ in range(2)]
        for branch in (objective.teacher, objective.student)
    )
    assert torch.equal(*one)
    assert not torch.equal(*two)


def test_views_are_a_function_of_the_generator():
    from PIL import Image

    config = get_recipe("dino-nano")
    config = replace(config, model=replace(config.model, num_local_crops=2))
    views = get_method("dino").views(get_spec("vit-nano"), config)
    image = Image.radial_gradient("L").convert("RGB").resize((70, 50))
    one, two = (views(image, torch.Generator().manual_seed(3)) for _ in range(2))
    assert {k: tuple(v.shape) for k, v in one.items()} == {
        "global": (2, 3, 64, 64),
        "local": (2, 3, 32, 32),
    }
    assert all(torch.equal(one[k], two[k]) and one[k].dtype == torch.uint8 for k in one)
    config = replace(config, model=replace(config.model, num_local_crops=0))
    alone = get_method("dino").views(get_spec("vit-nano"), config)
    assert alone(image, torch.Generator()).keys() == {"global"}


def test_what_a_recipe_leaves_unsaid_is_the_official_distortion():
    config, official = DINOConfig(), (DINO_GLOBAL_1, DINO_GLOBAL_2, DINO_LOCAL)
    for name in ("jitter", "grey_probability", "blur_radius"):
        assert {getattr(photometric, name) for photometric in official} == {getattr(config, name)}


def test_a_recipe_says_how_much_colours_are_distorted():
    from PIL import Image

    def crops(**change) -> dict[str, torch.Tensor]:
        config = get_recipe("dino-nano")
        config = replace(config, model=replace(config.model, num_local_crops=1, **change))
        views = get_method("dino").views(get_spec("vit-nano"), config)
        noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
        return views(Image.fromarray(noise), torch.Generator().manual_seed(3))

    grey = crops(grey_probability=1.0)
    assert all((views == views[:, :1]).all() for views in grey.values())
    still, sharp, soft = (
        crops(jitter=(0.0,) * 4, grey_probability=0.0, blur_radius=(radius, radius))["global"][0]
        for radius in (0.0, 0.1, 3.0)
    )
    # The first crop is always blurred.
    assert soft.float().std() < 0.5 * sharp.float().std()
    assert not torch.equal(still, crops(grey_probability=0.0, blur_radius=(0.0, 0.0))["global"][0])


def test_positions_of_local_crops_are_stretched_as_dinos():
    objective = get_method("dino").build(get_spec("vit-nano"), get_recipe("dino-nano"))
    vit, images = objective.student.backbone, torch.zeros(1, 3, 32, 40)
    patches, grid = vit.embed(images)
    assert grid == (4, 5)
    table = vit.pos_embed[:, vit.config.num_prefix_positions :].reshape(1, 8, 8, -1)
    expected = F.interpolate(
        table.permute(0, 3, 1, 2), scale_factor=(4.1 / 8, 5.1 / 8), mode="bicubic"
    )
    found = (patches - vit.patch_embed.proj.bias)[0].T.reshape(expected.shape)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_keys_of_the_official_checkpoint(keymaps):
    config = get_recipe("dino-vit-s16-300ep")
    objective = get_method("dino").build(get_spec("vit-s16"), config)
    state = objective.official_state()
    for name in ("student", "teacher"):
        wanted = json.loads((keymaps / f"dino_vit_small_patch16_{name}.json").read_text())
        assert {k: list(v.shape) for k, v in state[name].items()} == wanted["state_dict"]
    assert sum(p.numel() for p in objective.student.parameters()) == 44_017_792
    assert state["dino_loss"]["center"].shape == (1, 65536)


def test_official_weights_go_in_and_out():
    torch.manual_seed(1)
    source = {
        name: {k: torch.randn_like(v) for k, v in tensors.items()}
        for name, tensors in plain().official_state().items()
    }
    objective = plain()
    objective.load_official({**source, "epoch": 3, "args": None})
    found = objective.official_state()
    for name, tensors in source.items():
        assert found[name].keys() == tensors.keys()
        assert all(torch.equal(found[name][k], v) for k, v in tensors.items())
    assert torch.equal(
        objective.student.backbone.norm.bias, source["student"]["module.backbone.norm.bias"]
    )
    assert torch.equal(
        objective.teacher.head.last_layer.weight_v, source["teacher"]["head.last_layer.weight_v"]
    )
    with pytest.raises(PreflightError, match="has no student"):
        objective.load_official(source["teacher"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"saved": "both"}, 'model.saved: "both" is not supported; use "teacher" or "student"'),
        (
            {"num_prototypes": 0},
            "num_prototypes: 0 is not supported; use a whole",
        ),
        (
            {"local_scale": (0.4, 0.05)},
            r"local_scale: \[0.4, 0.05\] .* in rising order",
        ),
        ({"jitter": (0.4, 0.4, 0.2, 0.6)}, "jitter: .* is not supported; use a list of 4 numbers"),
        (
            {"blur_radius": (2.0, 0.1)},
            r"blur_radius: \[2.0, 0.1\] .* in rising order",
        ),
        ({"grey_probability": 1.5}, "grey_probability: 1.5 is not supported; use .* at most 1"),
        (
            {"student_temperature": 0.0},
            "student_temperature: 0.0 .* use a number above 0",
        ),
        (
            {"momentum": 1.5},
            "model.momentum: 1.5 is not supported; use .* at most 1",
        ),
    ],
)
def test_impossible_values(change, message):
    config = get_recipe("dino-nano")
    with pytest.raises(UserError, match=message):
        replace(config, model=replace(config.model, **change)).resolved()
