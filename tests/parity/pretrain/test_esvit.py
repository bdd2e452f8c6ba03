"""EsViT against its formulas in float64: both losses, gradients, matching, centres, layouts."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from backbones.base.errors import PreflightError, UserError
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.staged.config import ViLConfig
from backbones.staged.vil import ViL
from backbones.timm_networks.families import build_timm
from backbones.training.objective import Moment
from backbones.vit.config import ViTConfig
from backbones.vit.network import VisionTransformer
from pretrain.catalog import get_recipe
from pretrain.initial import load_initial, whole_checkpoint
from pretrain.method import get_method
from pretrain.methods.esvit import EsViTObjective
from pretrain.objective_file import save_objective
from pretrain.parts.distilled.distillation import DistillationBranch
from pretrain.recipes.esvit import EsViTConfig
from tests.parity.distillation import crops_of, distance, encoded, entropy, logits

STAGED = ["cvt-nano", "vil-nano"]
SMALL = EsViTConfig(
    num_prototypes=9, hidden_dim=12, bottleneck_dim=6, norm_last_layer=False, drop_path=0.0
)


def swin():
    return build_timm(
        "swin_tiny_patch4_window7_224",
        BuildOptions(img_size=32),
        embed_dim=8,
        depths=(1, 2),
        num_heads=(1, 2),
        window_size=2,
    )


def vit():
    return VisionTransformer(ViTConfig(16, 2, 2, patch_size=8), BuildOptions(img_size=32))


def vil():
    # Between two stages global tokens end, so that the last bias among them would have no gradient.
    config = ViLConfig((8, 16), (1, 1), (1, 2), num_global=(0, 1), reach=(4, 2), window=2)
    return ViL(config, BuildOptions(img_size=32))


def objective_of(build=swin, config: EsViTConfig = SMALL) -> EsViTObjective:
    torch.manual_seed(0)
    branches = [
        DistillationBranch(build(), 16, config, regions=config.region_weight > 0) for _ in range(2)
    ]
    objective = EsViTObjective(*branches, config)
    torch.nn.init.normal_(objective.view_center)
    if objective.region_center is not None:
        torch.nn.init.normal_(objective.region_center)
    return objective


def encode(backbone, weights, image):
    """Regions are the tokens behind the final norm; Swin's mean is its pooled feature."""
    features = torch.func.functional_call(backbone, weights, (image,), {"num_last_blocks": 1})
    regions = features.patch_tokens[-1]
    is_swin = "net.norm.weight" in weights
    return (regions.mean(dim=1) if is_swin else features.pooled), regions


def losses_of(objective, w, batch, **measured):
    student = encoded(objective, w, batch, "student", encode)
    teacher = encoded(objective, w, batch, "teacher", encode)
    levels = zip(("view", "region"), student, teacher, strict=True)
    return {name: distance(w, s, t, name, (0.1, 0.04), **measured) for name, s, t in levels}


@pytest.mark.parametrize("build", [swin, vit, vil])
@pytest.mark.parametrize(
    ("count", "large", "small", "num_local"),
    [(2, (32, 32), (16, 16), 2), (1, (32, 16), (16, 24), 1), (2, (16, 32), (), 0)],
)
def test_losses_and_gradients(parity, build, count, large, small, num_local):
    objective = parity.randomised(objective_of(build))
    batch = crops_of(count, large, small, num_local)

    def both(w):
        losses = losses_of(objective, w, batch)
        found = objective(batch)
        for name, expected in losses.items():
            torch.testing.assert_close(found[name], 0.5 * expected, rtol=1e-10, atol=0)
        return 0.5 * sum(losses.values())

    parity.compare(objective, batch, both)


@pytest.mark.parametrize("build", [swin, vit])
def test_losses_are_entropies_and_divergences(parity, build):
    objective = parity.randomised(objective_of(build))
    batch = crops_of(2, (32, 32), (16, 16), 2)
    losses = objective(batch)
    found = objective.metrics()
    expected = losses_of(objective, objective.state_dict(), batch, measure=entropy)
    for name, value in expected.items():
        torch.testing.assert_close(found[f"{name}_entropy"], value, rtol=1e-10, atol=1e-12)
        rest = 2 * losses[name].detach() - value
        torch.testing.assert_close(found[f"{name}_divergence"], rest)


def test_regions_that_wait_have_zeros(parity):
    config = replace(SMALL, region_start_epoch=1)
    objective = parity.randomised(objective_of(config=config))
    batch = crops_of(1, (32, 32), (), 0)
    names = []
    for epoch in (0.0, 1.0):
        objective.begin_step(Moment(0, 10, epoch))
        objective(batch)
        found = objective.metrics()
        names.append(list(found))
        assert bool(found["region_entropy"] > 0) == bool(epoch)
    assert names[0] == names[1]


def test_the_papers_weights(parity):
    config = replace(SMALL, view_weight=1.0, region_weight=1.0)
    one, other = (parity.randomised(objective_of(config=c)) for c in (SMALL, config))
    batch = crops_of(1, (32, 32), (16, 16), 1)
    halves, wholes = one(batch), other(batch)
    for name in ("view", "region"):
        torch.testing.assert_close(2 * halves[name], wholes[name], rtol=1e-12, atol=0)


def test_losses_in_float32():
    objective, batch = objective_of(), crops_of(4, (32, 32), (16, 16), 4)
    found = objective({k: v.float() for k, v in batch.items()})
    expected = objective.double()(batch)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-6)


def test_centres_of_both_levels(parity):
    objective = parity.randomised(objective_of())
    before = {k: v.clone() for k, v in objective.state_dict().items()}
    batch = crops_of(2, (32, 16), (16, 16), 1)
    objective(batch)
    pooled, regions = encoded(objective, before, batch, "teacher", encode)
    objective.after_update(Moment(step=0, num_steps=10, epoch=0.0))
    levels = (("view", "head", pooled), ("region", "region_head", regions))
    for name, head, found in levels:
        rows = [logits(row, before, f"teacher.{head}") for i in found for v in i for row in v]
        assert len(rows) == 4 * (1 if name == "view" else 8)
        expected = 0.9 * before[f"{name}_center"] + 0.1 * sum(rows) / len(rows)
        center = getattr(objective, f"{name}_center")
        torch.testing.assert_close(center, expected, rtol=1e-10, atol=1e-12)


def test_the_order_of_images_does_not_matter(parity):
    objective = parity.randomised(objective_of())
    batch = crops_of(3, (32, 32), (16, 16), 2)
    turned = {k: v.flip(0) for k, v in batch.items()}
    one, other = objective(batch), objective(turned)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-12, atol=0)


def test_regions_join_in_later():
    objective = objective_of(config=replace(SMALL, region_start_epoch=2))
    batch = {k: v.float() for k, v in crops_of(1, (32, 32), (16, 16), 1).items()}
    head = objective.student.region_head
    for epoch, joined in ((1.9, False), (2.0, True)):
        moment = Moment(0, 10, epoch)
        objective.zero_grad()
        objective.begin_step(moment)
        center = objective.region_center.clone()
        losses = objective(batch)
        assert (losses["region"] != 0) == joined
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in head.parameters())  # for several processes
        objective.before_update(moment)
        assert all((p.grad is not None) == joined for p in head.parameters())
        objective.after_update(moment)
        assert torch.equal(objective.region_center, center) != joined
    views = objective_of(config=replace(SMALL, region_weight=0.0))
    views.load_state_dict({k: v for k, v in objective.state_dict().items() if "region" not in k})
    objective.begin_step(Moment(0, 10, 1.0))
    assert torch.equal(views(batch)["view"], objective(batch)["view"])


def test_a_run_on_views_alone_may_begin_one_with_regions(tmp_path):
    small = get_recipe("esvit-nano")
    views = replace(small, model=replace(small.model, region_weight=0.0))
    method, spec = get_method("esvit"), get_spec("swin-nano")
    source, target = method.build(spec, views), method.build(spec, small)
    path = tmp_path / "objective.safetensors"
    save_objective(source, path, views, {"method": "esvit", "backbone": "swin-nano"})
    fresh = {k: v.clone() for k, v in target.state_dict().items() if "region" in k}
    sentence = load_initial(target, "esvit", spec, whole_checkpoint(path, spec.name), 0)
    found, before = target.state_dict(), source.state_dict()
    assert all(torch.equal(found[k], v) for k, v in {**before, **fresh}.items())
    assert f"{len(fresh)} fresh" in sentence


@pytest.mark.parametrize("name", ["timm:pvt_v2_b0", "resnet-nano", "timm:test_convnext", *STAGED])
def test_other_networks_with_stages(name):
    config = get_recipe("esvit-nano")
    config = replace(config, model=replace(config.model, num_prototypes=32))
    spec, method = get_spec(name), get_method("esvit")
    method.check(spec, config)
    objective = method.build(spec, config)
    batch = {k: v.float() for k, v in crops_of(2, (64, 64), (32, 32), 1).items()}
    losses = objective(batch)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    trained = [p for p in objective.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)
    with pytest.raises(UserError, match="known for Swin alone"):
        objective.official_state()


@pytest.mark.parametrize("name", STAGED)
@pytest.mark.parametrize("region_weight", [0.0, 0.5])
def test_a_few_steps_lower_the_loss(name, region_weight):
    torch.manual_seed(0)
    config = get_recipe("esvit-nano")
    model = replace(config.model, num_prototypes=32, region_weight=region_weight)
    objective = get_method("esvit").build(get_spec(name), replace(config, model=model))
    batch = {k: v.float() for k, v in crops_of(4, (64, 64), (32, 32), 1).items()}
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], 1e-3)
    totals = []
    for step in range(6):
        objective.begin_step(Moment(step, 6, 0.0))
        losses = objective(batch)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert set(losses) == ({"view", "region"} if region_weight else {"view"})
    assert totals[-1] < totals[0] - 0.01


def test_pictures():
    objective = objective_of().eval()
    batch = {k: v.float() for k, v in crops_of(2, (32, 32), (16, 16), 3).items()}
    crops, matches = objective.pictures(batch).values()
    assert crops.shape == (2, 5, 3, 32, 32)
    assert torch.equal(crops[:, :2], batch["global"])
    changed = (matches != batch["global"]).any(dim=2)
    cells = F.max_pool2d(changed.float(), 8).flatten(2).sum(dim=2)
    assert (cells[:, 0] == 6).all()  # marks in the first view
    assert (cells[:, 1] >= 1).all()
    assert not any(objective._means.values())


@pytest.mark.slow
def test_keys_of_the_official_checkpoint(keymaps):
    method, spec = get_method("esvit"), get_spec("swin-t-eps6")
    for recipe, kind in (("esvit-swin-t-300ep", ""), ("esvit-views-swin-t-300ep", "_view_only")):
        state = method.build(spec, get_recipe(recipe)).official_state()
        for name in ("student", "teacher") if not kind else ("student",):
            path = keymaps / f"esvit_swin_tiny_w7_{name}{kind}.json"
            wanted = json.loads(path.read_text())["state_dict"]
            assert {k: list(v.shape) for k, v in state[name].items()} == wanted


def test_official_weights_go_in_and_out():
    torch.manual_seed(1)
    source = {
        name: {k: v if k.endswith("index") else torch.randn_like(v) for k, v in tensors.items()}
        for name, tensors in objective_of().official_state().items()
    }
    objective = objective_of()
    objective.load_official({**source, "epoch": 3, "fp16_scaler": {}})
    found = objective.official_state()
    for name, tensors in source.items():
        assert found[name].keys() == tensors.keys()
        assert all(torch.equal(found[name][k], v) for k, v in tensors.items())
    student = source["student"]
    assert torch.equal(
        objective.student.region_head.mlp[0].bias, student["module.head_dense.mlp.0.bias"]
    )
    assert torch.equal(
        objective.student.backbone.net.layers[1].downsample.reduction.weight,
        student["module.layers.0.downsample.reduction.weight"],
    )
    assert torch.equal(objective.region_center, source["dino_loss"]["center_grid"][0])
    del source["teacher"]["norm.bias"]
    with pytest.raises(PreflightError, match=r"lacks norm\.bias"):
        objective.load_official(source)


def test_an_official_file_of_views_alone_leaves_region_heads_fresh():
    source = objective_of(config=replace(SMALL, region_weight=0.0)).official_state()
    objective = objective_of()
    fresh = {k: v.clone() for k, v in objective.state_dict().items() if "region" in k}
    objective.load_official(source)
    state = objective.state_dict()
    assert all(torch.equal(state[k], v) for k, v in fresh.items())
    assert torch.equal(objective.view_center, source["dino_loss"]["center"][0])
