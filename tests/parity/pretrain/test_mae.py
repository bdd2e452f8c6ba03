"""MAE against its formulas in float64, official layouts, golden losses."""

import json
from dataclasses import replace

import pytest
import torch

from backbones.base.errors import PreflightError, UserError
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.vit.config import ViTConfig
from backbones.vit.network import VisionTransformer
from pretrain.catalog import get_recipe
from pretrain.method import get_method
from pretrain.methods.mae import MAEObjective
from pretrain.recipes.mae import MAEConfig

PATCH = 4
SHAPE = ViTConfig(16, 2, 2, patch_size=PATCH, positions="sincos")
SMALL = MAEConfig(decoder_dim=8, decoder_layers=2, decoder_heads=2)
KEEP = {0.75: lambda n: int(n * 0.25), 0.6: lambda n: int(n * (1 - 0.6))}


def small(config=SMALL, shape=SHAPE, img_size=16):
    vit = VisionTransformer(shape, BuildOptions(img_size=img_size))
    return MAEObjective(vit, config, img_size)


def batch_of(count, height, width, seed=1):
    generator = torch.Generator().manual_seed(seed)
    length = (height // PATCH) * (width // PATCH)
    return {
        "image": torch.randn(count, 3, height, width, generator=generator, dtype=torch.float64),
        "noise": torch.rand(count, length, generator=generator),
    }


def mae_loss(w, batch, reference, config, img_size=16):
    """Section 3 of the paper, an image and a token at a time."""
    height, width = batch["image"].shape[-2:]
    grid, side = (height // PATCH, width // PATCH), img_size // PATCH
    length = grid[0] * grid[1]
    keep = int(length * (1 - config.mask_ratio))
    positions = reference.stretched(reference.sincos(16, side, side), grid)
    places = reference.stretched(reference.sincos(config.decoder_dim, side, side), grid)
    errors = []
    for image, noise in zip(batch["image"], batch["noise"].tolist(), strict=True):
        order = sorted(range(length), key=noise.__getitem__)
        visible = order if config.mask_tokens_in_encoder else order[:keep]
        tokens = [w["backbone.cls_token"][0, 0]]
        for place in visible:
            row, column = divmod(place, grid[1])
            token = reference.project(image, row, column, w, "backbone.patch_embed.proj")
            if config.mask_tokens_in_encoder and place in order[keep:]:
                token = w["mask_token"][0, 0]
            tokens.append(token + positions[place])
        x = reference.blocks(torch.stack(tokens), w, "backbone.blocks", 2, 2)
        x = reference.linear(reference.norm(x, w, "backbone.norm"), w, "decoder.embed")
        tokens = [x[0]]
        for place in range(length):
            seen = place in visible
            token = x[1 + visible.index(place)] if seen else w["decoder.mask_token"][0, 0]
            tokens.append(token + places[place])
        y = reference.blocks(torch.stack(tokens), w, "decoder.blocks", config.decoder_layers, 2)
        y = reference.linear(reference.norm(y, w, "decoder.norm"), w, "decoder.pred")[1:]
        for place in order[keep:]:
            target = reference.patch(image, *divmod(place, grid[1]), PATCH)
            if config.target == "norm_pixels":
                target = reference.normalised(target)
            errors.append(((y[place] - target) ** 2).sum() / len(target))
    return sum(errors) / len(errors)


@pytest.mark.parametrize(
    ("config", "count", "height", "width"),
    [
        (SMALL, 2, 16, 16),
        (SMALL, 1, 12, 24),
        (replace(SMALL, mask_ratio=0.6, target="pixels"), 3, 20, 8),
        (replace(SMALL, decoder_layers=1, mask_tokens_in_encoder=True), 2, 16, 12),
        (replace(SMALL, decoder_layers=0, mask_tokens_in_encoder=True), 2, 16, 12),
    ],
)
def test_loss_and_gradients(reference, parity, config, count, height, width):
    objective = parity.randomised(small(config))
    batch = batch_of(count, height, width)
    parity.compare(objective, batch, lambda w: mae_loss(w, batch, reference, config))


def test_principal_components_are_those_of_the_first_images(parity):
    config = replace(SMALL, target="pca", num_components=5)
    first, batch = batch_of(8, 16, 16), batch_of(2, 16, 16, seed=2)
    objective = parity.randomised(small(config))
    objective.prepare(first)
    pixels = objective._cut(first)[0].flatten(0, 1)
    center = pixels.mean(dim=0)
    _, _, components = torch.linalg.svd(pixels - center, full_matrices=False)
    overlap = (components[:5] @ objective.target.basis.double()).abs()
    torch.testing.assert_close(overlap, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(objective.target.center, center, rtol=1e-5, atol=1e-7)
    values = objective.target(objective._cut(batch)[0][0, :1])
    torch.testing.assert_close(
        values.square(), ((components[:5] @ (objective._cut(batch)[0][0, 0] - center)) ** 2)[None],
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip


def test_known_components_stay():
    config = replace(SMALL, target="pca", num_components=5)
    objective, again = small(config), small(config)
    objective.prepare(as_single(batch_of(8, 16, 16)))
    again.load_state_dict(objective.state_dict())
    again.prepare(as_single(batch_of(8, 16, 16, seed=2)))
    assert torch.equal(again.target.basis, objective.target.basis)
    assert objective.num_first_images > 0
    assert small(SMALL).num_first_images == 0


def test_too_few_patches_for_the_components():
    config = replace(SMALL, target="pca", num_components=40)
    with pytest.raises(UserError, match="16 patches of the first images are too few for 40"):
        small(config).prepare(as_single(batch_of(1, 16, 16)))


def as_single(batch):
    return {name: value.float() for name, value in batch.items()}


def test_initial_weights():
    torch.manual_seed(0)
    vit = VisionTransformer(ViTConfig(64, 2, 2, patch_size=8), BuildOptions(img_size=64))
    objective = MAEObjective(vit, MAEConfig(decoder_dim=32, decoder_heads=2), 64)
    state = objective.state_dict()
    bounds = {
        "backbone.blocks.0.attn.qkv.weight": (6 / (64 + 3 * 64)) ** 0.5,
        "backbone.blocks.1.mlp.fc1.weight": (6 / (64 + 256)) ** 0.5,
        "backbone.patch_embed.proj.weight": (6 / (64 + 3 * 64)) ** 0.5,
        "decoder.pred.weight": (6 / (32 + 192)) ** 0.5,
    }
    for name, bound in bounds.items():
        largest = float(state[name].abs().max())
        assert 0.97 * bound < largest <= bound, name
    for name in ("backbone.cls_token", "decoder.mask_token"):
        assert 0.01 < float(state[name].std()) < 0.03, name
    assert not state["backbone.blocks.0.attn.qkv.bias"].any()
    assert (state["decoder.norm.weight"] == 1).all()
    assert not vit.pos_embed.requires_grad


def test_learned_positions_become_the_fixed_table(reference):
    vit = VisionTransformer(ViTConfig(16, 1, 2, patch_size=4), BuildOptions(img_size=16))
    MAEObjective(vit, SMALL, 16)
    assert not vit.pos_embed[0, 0].any()
    torch.testing.assert_close(vit.pos_embed[0, 1:].double(), reference.sincos(16, 4, 4))


@pytest.mark.parametrize(
    ("arch", "total", "encoder"),
    [("vit-b16", 111_907_840, 85_798_656), ("vit-l16", 329_541_888, 303_301_632)],
)
def test_parameter_counts(arch, total, encoder):
    config = get_recipe(f"mae-{arch}-800ep")
    with torch.device("meta"):
        objective = get_method("mae").build(get_spec(arch), config)
    assert sum(v.numel() for v in objective.state_dict().values()) == total
    assert sum(v.numel() for v in objective.backbone.state_dict().values()) == encoder


def test_parameter_count_of_the_largest():
    with torch.device("meta"):
        objective = get_method("mae").build(get_spec("vit-h14"), get_recipe("mae-vit-h14-1600ep"))
    assert sum(v.numel() for v in objective.state_dict().values()) == 657_074_508
    assert sum(v.numel() for v in objective.backbone.state_dict().values()) == 630_764_800


@pytest.mark.parametrize(
    ("arch", "keymap"),
    [
        ("vit-b16", "mae_vit_base_patch16_pretrain_full"),
        pytest.param("vit-l16", "mae_vit_large_patch16_pretrain_full", marks=pytest.mark.slow),
    ],
)
def test_official_layout(keymaps, arch, keymap):
    shapes = json.loads((keymaps / f"{keymap}.json").read_text())["state_dict"]
    with torch.device("meta"):
        objective = get_method("mae").build(get_spec(arch), get_recipe(f"mae-{arch}-800ep"))
    state = objective.official_state()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == shapes


def test_official_weights_go_in_and_out():
    torch.manual_seed(0)
    source = {k: torch.randn_like(v) for k, v in small().official_state().items()}
    objective = small()
    objective.load_official({"model": source, "epoch": 1, "args": None})
    found = objective.official_state()
    assert found.keys() == source.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in source.items())
    assert torch.equal(objective.backbone.norm.bias, source["norm.bias"])
    assert torch.equal(
        objective.decoder.blocks[1].mlp.fc1.bias, source["decoder_blocks.1.mlp.fc1.bias"]
    )


def test_misfitting_weights_are_named():
    state = small().official_state()
    del state["decoder_embed.bias"]
    state["head.weight"] = torch.zeros(1)
    with pytest.raises(PreflightError, match=r"lacks decoder_embed\.bias; has no use for head"):
        small().load_official({"model": state})


GOLDEN = [
    1.28982, 1.26483, 1.24503, 1.22865, 1.21383, 1.20007, 1.18737, 1.17570, 1.16484, 1.15452,
    1.14473, 1.13578, 1.12787, 1.12080, 1.11433, 1.10825, 1.10247, 1.09689, 1.09149, 1.08625,
]  # fmt: skip


def test_twenty_steps_have_not_changed(golden):
    torch.manual_seed(0)
    batch = {k: v.float() for k, v in batch_of(4, 16, 16).items()}
    golden(small(), batch, GOLDEN)


@pytest.mark.parametrize(
    ("backbone", "change", "message"),
    [
        ("lomar-vit-b16", {}, "relative positions"),
        ("vit-nano", {"mask_ratio": 0.999}, "leaves 0 of 64 patches visible"),
    ],
)
def test_what_cannot_be_trained(backbone, change, message):
    config = get_recipe("mae-nano")
    config = replace(config, model=replace(config.model, **change))
    with torch.device("meta"), pytest.raises(UserError, match=message):
        get_method("mae").build(get_spec(backbone), config)


def test_images_that_do_not_divide():
    config = get_recipe("mae-nano")
    config = replace(config, data=replace(config.data, img_size=60))
    with pytest.raises(UserError, match="60 x 60 pixels do not divide into patches of 8"):
        get_method("mae").views(get_spec("vit-nano"), config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"decoder_heads": 3},
            "decoder_heads: 3 is not supported; use a divisor of",
        ),
        ({"decoder_dim": 510}, "decoder_dim: 510 is not supported; use a multiple of 4 above 0"),
        ({"mask_ratio": 1.0}, "mask_ratio: 1.0 is not supported; use a number above 0 and below 1"),
        (
            {"sampling": "chess"},
            'sampling: "chess" is not supported; use "random", "block"',
        ),
        ({"target": "tokens"}, 'target: "tokens" is not supported'),
        ({"augmentation": "blur"}, 'augmentation: "blur" is not supported'),
    ],
)
def test_impossible_values(change, message):
    config = get_recipe("mae-nano")
    with pytest.raises(UserError, match=message):
        replace(config, model=replace(config.model, **change)).resolved()
