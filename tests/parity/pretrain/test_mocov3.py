"""MoCo v3 against its formulas in float64, official layouts, what moves when."""

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

from backbones.base.errors import PreflightError, UserError
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.timm_networks.families import build_timm
from backbones.training.objective import Moment
from backbones.training.optim import make_optimizer, parameter_groups
from backbones.vit.config import ViTConfig
from backbones.vit.network import VisionTransformer
from pretrain.catalog import get_recipe
from pretrain.config import PretrainDataConfig
from pretrain.method import get_method
from pretrain.methods.mocov3 import METHOD, ContrastiveBranch, MoCoV3Objective, MoCoV3Views
from pretrain.recipes.mocov3 import MoCoV3Config

PLAIN = ViTConfig(16, 2, 2, patch_size=4)
CONFIG = MoCoV3Config(hidden_dim=12, output_dim=6)


def plain(config=CONFIG):
    options = BuildOptions(img_size=16)
    branches = [ContrastiveBranch(VisionTransformer(PLAIN, options), config) for _ in range(2)]
    return MoCoV3Objective(*branches, config)


def batch_of(count, height, width, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 2, 3, height, width)
    return {"views": torch.randn(shape, generator=generator, dtype=torch.float64)}


def normalised(rows):
    """Batch norm without scale and shift, a channel at a time."""
    columns = []
    for column in torch.stack(rows).T:
        mean = sum(column) / len(column)
        var = sum((value - mean) ** 2 for value in column) / len(column)
        columns.append((column - mean) / torch.sqrt(var + 1e-5))
    return list(torch.stack(columns, dim=1))


def mlp(rows, w, name, sizes, normalise_output):
    for number in range(sizes):
        rows = [w[f"{name}.{3 * number}.weight"] @ row for row in rows]
        if number < sizes - 1:
            scale, shift = (w[f"{name}.{3 * number + 1}.{what}"] for what in ("weight", "bias"))
            rows = [(row * scale + shift).clamp(min=0) for row in normalised(rows)]
        elif normalise_output:
            rows = normalised(rows)
    return rows


def projections(images, w, name, reference):
    grid = (images.shape[-2] // 4, images.shape[-1] // 4)
    by_column, by_row = reference.sincos(16, 4, 4).chunk(2, dim=1)
    positions = reference.stretched(torch.cat([by_row, by_column], dim=1), grid)
    rows = []
    for image in images:
        tokens = [w[f"{name}.backbone.cls_token"][0, 0]]
        for place in range(grid[0] * grid[1]):
            row, column = divmod(place, grid[1])
            embedded = reference.project(image, row, column, w, f"{name}.backbone.patch_embed.proj")
            tokens.append(embedded + positions[place])
        x = reference.blocks(torch.stack(tokens), w, f"{name}.backbone.blocks", 2, 2)
        rows.append(reference.norm(x, w, f"{name}.backbone.norm")[0])
    return rows


def unit(row):
    return row / torch.sqrt(sum(value**2 for value in row))


def contrast(queries, keys, temperature):
    total = 0
    for i, query in enumerate(queries):
        similar = [unit(query) @ unit(key) / temperature for key in keys]
        total = total - similar[i] + torch.log(sum(torch.exp(value) for value in similar))
    return 2 * temperature * total / len(queries)


@pytest.mark.parametrize(
    ("count", "height", "width", "change"),
    [
        (4, 16, 16, {}),
        (3, 8, 24, {"temperature": 1.0, "projector_layers": 2, "normalise_output": False}),
    ],
)
def test_loss_and_gradients(reference, parity, count, height, width, change):
    config = replace(CONFIG, **change)
    torch.manual_seed(0)
    objective = parity.randomised(plain(config))
    batch = batch_of(count, height, width)

    def loss(w):
        queries, keys = [], []
        for view in batch["views"].unbind(1):
            for name, found in (("student", queries), ("teacher", keys)):
                rows = projections(view, w, name, reference)
                rows = mlp(rows, w, f"{name}.projector", config.projector_layers, True)
                if name == "student":
                    rows = mlp(rows, w, "predictor", 2, config.normalise_output)
                found.append(rows)
        pairs = ((queries[0], keys[1]), (queries[1], keys[0]))
        return sum(contrast(q, [k.detach() for k in ks], config.temperature) for q, ks in pairs)

    parity.compare(objective, batch, loss)


def test_the_teacher_moves_before_the_keys_by_a_momentum_that_rises_to_one():
    objective = plain().double()
    name = "backbone.blocks.0.mlp.fc1.weight"
    branches = (objective.student, objective.teacher)
    student, teacher = (branch.get_parameter(name) for branch in branches)
    assert torch.equal(student, teacher)
    with torch.no_grad():
        student.add_(1.0)
    before = teacher.clone()
    for step in (0, 3, 9):
        with torch.no_grad():
            teacher.copy_(before)
        objective.begin_step(Moment(step, 10, 0.0))
        momentum = 1 - 0.5 * (1 + math.cos(math.pi * step / 10)) * (1 - 0.99)
        torch.testing.assert_close(teacher, momentum * before + (1 - momentum) * student)
    moved = teacher.clone()
    objective(batch_of(2, 16, 16))
    objective.after_update(Moment(9, 10, 0.0))
    assert torch.equal(teacher, moved)


def test_the_teachers_running_statistics_are_its_own():
    torch.manual_seed(0)
    objective = plain().double()
    with torch.no_grad():
        objective.student.projector[0].weight.mul_(2.0)
    objective(batch_of(4, 16, 16))
    student, teacher = objective.student.projector[1], objective.teacher.projector[1]
    assert int(student.num_batches_tracked) == int(teacher.num_batches_tracked) == 2
    before = teacher.running_var.clone()
    objective.begin_step(Moment(0, 10, 0.0))
    assert torch.equal(teacher.running_var, before)
    assert not torch.allclose(teacher.running_var, student.running_var)


def test_initial_weights():
    torch.manual_seed(0)
    config = get_recipe("mocov3-nano")
    objective = get_method("mocov3").build(get_spec("vit-nano"), config)
    vit = objective.student.backbone.requires_grad_(False)
    qkv = vit.blocks[0].attn.qkv.weight
    bound = math.sqrt(6 / (96 + 96))
    assert 0.98 * bound < float(qkv.abs().max()) <= bound
    bound = math.sqrt(6 / (3 * 8 * 8 + 96))
    assert 0.98 * bound < float(vit.patch_embed.proj.weight.abs().max()) <= bound
    assert not vit.patch_embed.proj.bias.any()
    assert 0 < float(vit.cls_token.std()) < 3e-6
    by_row, by_column = vit.pos_embed[0, 1:].unflatten(0, (8, 8)).chunk(2, dim=-1)
    assert torch.equal(by_row[:, :1].expand_as(by_row), by_row)
    assert torch.equal(by_column[:1].expand_as(by_column), by_column)


def test_what_is_trained_and_what_decays():
    config = get_recipe("mocov3-nano")
    objective = get_method("mocov3").build(get_spec("vit-nano"), config)
    (group,) = parameter_groups(objective, config.optim)
    assert group.decayed
    assert not any(name.startswith("teacher.") for name in group.names)
    assert not any("patch_embed" in name or "pos_embed" in name for name in group.names)
    assert "student.backbone.blocks.0.norm1.bias" in group.names
    model = replace(config.model, freeze_patches=False)
    thawed = get_method("mocov3").build(get_spec("vit-nano"), replace(config, model=model))
    assert thawed.student.backbone.patch_embed.proj.weight.requires_grad


@pytest.mark.parametrize("epochs", [100, 300, 1000])
def test_resnets_have_the_official_heads_and_optimizer(epochs):
    config = get_recipe(f"mocov3-resnet50-{epochs}ep").resolved()
    assert config.optim.scaled(256) == {100: 0.6, 300: 0.3, 1000: 0.3}[epochs]
    objective = get_method("mocov3").build(get_spec("resnet-nano"), config)
    shapes = [tuple(p.shape) for name, p in objective.named_parameters() if "or.0" in name]
    assert shapes == [(4096, 256), (4096, 256), (4096, 256)]
    assert len(objective.student.projector) == 5
    assert len(objective.predictor) == 4
    optimizer = make_optimizer(parameter_groups(objective, config.optim), config.optim)
    assert type(optimizer).__name__ == "LARS"


@pytest.mark.slow
def test_parameter_counts_and_layouts(keymaps):
    config = get_recipe("mocov3-vit-b16-300ep")
    objective = get_method("mocov3").build(get_spec(config.backbone), config)
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    assert trained == 108_150_016
    content = json.loads((keymaps / "mocov3_vit_base_pretrain_full.json").read_text())
    state = objective.official_state()["state_dict"]
    assert {name: list(value.shape) for name, value in state.items()} == content["state_dict"]


def resnet():
    branches = [
        ContrastiveBranch(
            build_timm("resnet10t", BuildOptions(), channels=(4, 4, 4, 8), stem_width=4), CONFIG
        )
        for _ in range(2)
    ]
    return MoCoV3Objective(*branches, CONFIG)


@pytest.mark.parametrize(("build", "head"), [(plain, "head"), (resnet, "fc")])
def test_official_weights_go_in_and_out(build, head):
    torch.manual_seed(0)
    source = {
        k: torch.randn_like(v) if v.is_floating_point() else v + 7
        for k, v in build().official_state()["state_dict"].items()
    }
    objective = build()
    objective.load_official({"state_dict": source, "epoch": 300, "arch": "vit_base"})
    found = objective.official_state()["state_dict"]
    assert found.keys() == source.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in source.items())
    taught = source[f"module.momentum_encoder.{head}.0.weight"]
    assert torch.equal(objective.teacher.projector[0].weight, taught)
    assert torch.equal(objective.predictor[0].weight, source["module.predictor.0.weight"])


def test_misfits():
    state = plain().official_state()["state_dict"]
    del state["module.predictor.0.weight"]
    with pytest.raises(PreflightError, match=r"lacks predictor\.0\.weight"):
        plain().load_official({"state_dict": state})
    with pytest.raises(PreflightError, match='no "state_dict"'):
        plain().load_official(state)
    swin = get_spec("swin-nano")
    config = replace(get_recipe("mocov3-nano"), backbone="swin-nano")
    with pytest.raises(UserError, match="not of this SwinBackbone"):
        get_method("mocov3").build(swin, config).official_state()


def test_views_are_two_distorted_crops():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 50, 3), generator=generator, dtype=torch.uint8)
    image = Image.fromarray(pixels.numpy())
    data = PretrainDataConfig(img_size=16)
    first = MoCoV3Views(data)(image, torch.Generator().manual_seed(3))["views"]
    again = MoCoV3Views(data)(image, torch.Generator().manual_seed(3))["views"]
    assert first.shape == (2, 3, 16, 16)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "model.temperature: 0.0 is not supported; use a number above 0"),
        ({"momentum": 1.5}, "model.momentum: 1.5 is not supported; use a number"),
        (
            {"hidden_dim": 0},
            "model.hidden_dim: 0 is not supported; use a whole",
        ),
    ],
)
def test_impossible_settings(change, message):
    config = get_recipe("mocov3-nano")
    with pytest.raises(UserError, match=message):
        replace(config, model=replace(config.model, **change)).resolved()


@pytest.mark.parametrize("processes", [1, 2])
def test_batch_norms_need_two_images_over_all_processes(monkeypatch, processes):
    monkeypatch.setattr("pretrain.methods.mocov3.world_size", lambda: processes)
    config = get_recipe("mocov3-nano")
    config = replace(config, schedule=replace(config.schedule, batch_size_per_device=1))
    spec = get_spec(config.backbone)
    if processes == 2:
        METHOD.views(spec, config)
        return
    with pytest.raises(UserError, match="at least 2 images at once") as caught:
        METHOD.views(spec, config)
    assert "schedule.batch_size_per_device" in str(caught.value)
    # Weights of a run of several processes are still exported by one.
    METHOD.build(spec, config)
