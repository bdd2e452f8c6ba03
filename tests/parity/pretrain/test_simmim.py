"""SimMIM against its formulas in float64, official layouts, golden losses."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from backbones.base.errors import PreflightError, UserError
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.timm_networks.families import build_timm
from backbones.vit.config import ViTConfig
from backbones.vit.network import VisionTransformer
from pretrain.catalog import get_recipe
from pretrain.method import get_method
from pretrain.methods.simmim import SimMIMObjective
from pretrain.recipes.simmim import SimMIMConfig

PLAIN = ViTConfig(16, 2, 2, patch_size=4, positions="sincos")


def plain():
    return SimMIMObjective(VisionTransformer(PLAIN, BuildOptions(img_size=16)), SimMIMConfig())


def swin():
    backbone = build_timm(
        "swin_tiny_patch4_window7_224",
        BuildOptions(img_size=32),
        embed_dim=8,
        depths=(1, 2),
        num_heads=(1, 2),
        window_size=2,
    )
    return SimMIMObjective(backbone, SimMIMConfig())


def beit(config=SimMIMConfig()):  # noqa: B008
    backbone = build_timm(
        "beit_base_patch16_224",
        BuildOptions(img_size=16),
        patch_size=4,
        embed_dim=16,
        depth=2,
        num_heads=2,
    )
    return SimMIMObjective(backbone, config)


def batch_of(count, height, width, square, seed=1):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(count, height // square, width // square, generator=generator) < 0.6
    mask[:, 0, 0], mask[:, -1, -1] = True, False
    image = torch.randn(count, 3, height, width, generator=generator, dtype=torch.float64)
    return {"image": image, "mask": mask}


def pixel_loss(w, batch, last_maps, stride):
    """Sum of |x - x'| over masked pixels by their number and 3, a pixel at a time."""
    square = batch["image"].shape[-1] // batch["mask"].shape[-1]
    total, masked = 0, 0
    kernel, bias = w["head.weight"][:, :, 0, 0], w["head.bias"]
    for image, mask, last in zip(batch["image"], batch["mask"], last_maps, strict=True):
        height, width = image.shape[-2:]
        for y in range(height):
            for x in range(width):
                if not mask[y // square, x // square]:
                    continue
                masked += 1
                cell = last[:, y // stride, x // stride]
                for channel in range(3):
                    value = channel * stride**2 + (y % stride) * stride + x % stride
                    total = (
                        total + (kernel[value] @ cell + bias[value] - image[channel, y, x]).abs()
                    )
    return total / (masked + 1e-5) / 3


def plain_loss(w, batch, reference):
    grid = (batch["image"].shape[-2] // 4, batch["image"].shape[-1] // 4)
    positions = reference.stretched(reference.sincos(16, 4, 4), grid)
    square = batch["image"].shape[-1] // batch["mask"].shape[-1]
    maps = []
    for image, mask in zip(batch["image"], batch["mask"], strict=True):
        tokens = [w["backbone.cls_token"][0, 0]]
        for place in range(grid[0] * grid[1]):
            row, column = divmod(place, grid[1])
            if mask[row * 4 // square, column * 4 // square]:
                token = w["mask_token"][0, 0]
            else:
                token = reference.project(image, row, column, w, "backbone.patch_embed.proj")
            tokens.append(token + positions[place])
        x = reference.blocks(torch.stack(tokens), w, "backbone.blocks", 2, 2)
        x = reference.norm(x, w, "backbone.norm")[1:]
        maps.append(x.T.reshape(-1, *grid))
    return pixel_loss(w, batch, maps, 4)


@pytest.mark.parametrize(
    ("count", "height", "width", "square"), [(2, 16, 16, 8), (1, 8, 24, 4), (2, 24, 16, 8)]
)
def test_plain_loss_and_gradients(reference, parity, count, height, width, square):
    objective = parity.randomised(plain())
    batch = batch_of(count, height, width, square)
    parity.compare(objective, batch, lambda w: plain_loss(w, batch, reference))


@pytest.mark.parametrize(
    ("count", "height", "width", "square"), [(2, 32, 32, 8), (1, 16, 24, 4), (1, 32, 16, 16)]
)
def test_swin_loss_and_gradients(reference, parity, count, height, width, square):
    """timm's stages behind a patch embedding of our own, masked cell by cell."""
    objective = parity.randomised(swin())
    net = objective.backbone.net
    batch = batch_of(count, height, width, square)

    def loss(w):
        maps = []
        for image, mask in zip(batch["image"], batch["mask"], strict=True):
            rows = []
            for row in range(height // 4):
                cells = []
                for column in range(width // 4):
                    stem = "backbone.net.patch_embed"
                    cell = reference.project(image, row, column, w, f"{stem}.proj")
                    cell = nn.functional.layer_norm(
                        cell, (8,), w[f"{stem}.norm.weight"], w[f"{stem}.norm.bias"], 1e-5
                    )
                    if mask[row * 4 // square, column * 4 // square]:
                        cell = w["mask_token"][0, 0]
                    cells.append(cell)
                rows.append(torch.stack(cells))
            tokens = torch.stack(rows)[None]
            inner = "backbone.net."
            stages = {k.removeprefix(inner): v for k, v in w.items() if k.startswith(inner)}
            for part in ("layers", "norm"):
                own = {
                    k.removeprefix(f"{part}."): v for k, v in stages.items() if k.startswith(part)
                }
                tokens = torch.func.functional_call(getattr(net, part), own, (tokens,))
            maps.append(tokens[0].permute(2, 0, 1))
        return pixel_loss(w, batch, maps, 8)

    parity.compare(objective, batch, loss)


def test_mask_may_come_a_cell_a_token():
    objective, batch = plain().double(), batch_of(2, 16, 16, 8)
    fine = batch["mask"].repeat_interleave(2, 1).repeat_interleave(2, 2)
    (coarse_loss,) = objective(batch).values()
    (fine_loss,) = objective(batch | {"mask": fine}).values()
    assert torch.equal(coarse_loss, fine_loss)


def test_beit_trains_one_table():
    objective = beit()
    names = [name for name, _ in objective.named_parameters() if "bias_tables" in name]
    assert names == ["backbone.bias_tables.0"]
    objective({k: v.float() if k == "image" else v for k, v in batch_of(1, 16, 16, 4).items()})[
        "reconstruction"
    ].backward()
    assert objective.backbone.bias_tables[1].grad.abs().max() > 0
    names = [n for n, _ in beit(SimMIMConfig(share_bias_tables=False)).named_parameters()]
    assert len([name for name in names if "bias_tables" in name]) == 2


def test_visible_pixels_of_the_target_do_not_count():
    objective, batch = plain().double(), batch_of(2, 16, 16, 8)
    objective.eval()
    loss = objective(batch)["reconstruction"]
    predicted = objective._reconstruct(batch["image"], batch["mask"])
    mask = (
        batch["mask"].repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None].expand(-1, 3, -1, -1)
    )
    expected = (predicted - batch["image"])[mask].abs().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "keymap", "count"),
    [
        ("simmim-swin-b-800ep", "simmim_swin_base_w6_192_pretrain", 89_874_104),
        ("simmim-vit-b16-800ep", "simmim_vit_base_pretrain", 86_256_720),
    ],
)
def test_parameter_counts_and_layouts(keymaps, recipe, keymap, count):
    config = get_recipe(recipe)
    objective = get_method("simmim").build(get_spec(config.backbone), config)
    assert sum(parameter.numel() for parameter in objective.parameters()) == count
    shapes = json.loads((keymaps / f"{keymap}.json").read_text())["state_dict"]
    state = objective.official_state()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == shapes


@pytest.mark.parametrize("build", [swin, beit])
def test_official_weights_go_in_and_out(build):
    torch.manual_seed(0)
    source = {
        k: v if k.endswith(("index", "attn_mask")) else torch.randn_like(v)
        for k, v in build().official_state().items()
    }
    objective = build()
    objective.load_official({"model": source, "epoch": 1, "max_accuracy": 0.0})
    found = objective.official_state()
    assert found.keys() == source.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in source.items())
    assert torch.equal(objective.mask_token, source["encoder.mask_token"])
    assert torch.equal(objective.head.bias, source["decoder.0.bias"])


def test_official_names_of_patch_merging():
    objective = swin()
    official = objective.official_state()["encoder.layers.0.downsample.reduction.weight"]
    assert torch.equal(official, objective.backbone.net.layers[1].downsample.reduction.weight)


def test_misfits():
    state = swin().official_state()
    del state["encoder.norm.bias"]
    with pytest.raises(PreflightError, match=r"lacks encoder\.norm\.bias"):
        swin().load_official(state)
    with pytest.raises(UserError, match="not of this VisionTransformer"):
        plain().official_state()


def test_what_is_not_decayed():
    """As the official trainer: bias tables decayed, the mask token for ViT alone."""
    assert swin().no_weight_decay() == {"mask_token"}
    assert beit().no_weight_decay() == frozenset()


def test_initial_weights():
    torch.manual_seed(0)
    config = get_recipe("simmim-nano")
    objective = get_method("simmim").build(get_spec("swin-nano"), config)
    state = objective.state_dict()
    assert 0.01 < float(state["mask_token"].std()) < 0.03
    assert float(state["mask_token"].abs().max()) <= 2
    assert 0.018 < float(state["backbone.net.layers.3.blocks.0.mlp.fc1.weight"].std()) < 0.022


GOLDEN = [
    0.90255, 0.88175, 0.87248, 0.86676, 0.86243, 0.85823, 0.85471, 0.85132, 0.84787, 0.84418,
    0.84041, 0.83683, 0.83348, 0.83036, 0.82739, 0.82452, 0.82192, 0.81931, 0.81667, 0.81411,
]  # fmt: skip


def test_twenty_steps_have_not_changed(golden):
    torch.manual_seed(0)
    batch = batch_of(4, 32, 32, 8)
    golden(swin(), batch | {"image": batch["image"].float()}, GOLDEN)


@pytest.mark.parametrize(
    ("backbone", "change", "message"),
    [
        ("swin-nano", {"square_size": 6}, "square_size 6 must be a multiple"),
        ("swin-nano", {"square_size": 24}, "divide data.img_size 64"),
        ("resnet-nano", {}, "take a Swin, a BEiT"),
    ],
)
def test_what_cannot_be_trained(backbone, change, message):
    config = get_recipe("simmim-nano")
    config = replace(config, model=replace(config.model, **change))
    with pytest.raises(UserError, match=message):
        get_method("simmim").build(get_spec(backbone), config)
