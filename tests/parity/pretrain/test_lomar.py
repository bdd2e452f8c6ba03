"""LoMaR against its formulas in float64, official layout, golden losses."""

import json
from dataclasses import replace
from math import gcd

import pytest
import torch
from torch import nn

from backbones.base.errors import PreflightError, UserError
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.vit.config import ViTConfig
from backbones.vit.network import VisionTransformer
from pretrain.catalog import get_recipe
from pretrain.method import get_method
from pretrain.methods.lomar import LoMaRObjective
from pretrain.parts.masked.windows import pair_windows
from pretrain.recipes.lomar import LoMaRConfig

PATCH = 4
SHAPE = ViTConfig(16, 2, 2, patch_size=PATCH, positions="none", irpe=True, pooling="mean")
PLACED = replace(SHAPE, positions="sincos", irpe=False)
SMALL = LoMaRConfig(window_size=3, num_windows=2)


def small(config=SMALL, shape=SHAPE, img_size=24):
    return LoMaRObjective(
        VisionTransformer(shape, BuildOptions(img_size=img_size)), config, img_size
    )


def batch_of(config, count, height, width, seed=1):
    generator = torch.Generator().manual_seed(seed)
    grid = (height // PATCH, width // PATCH)
    side, windows = config.window_size, config.num_windows
    cells = side**2 or grid[0] * grid[1]
    return {
        "image": torch.randn(count, 3, height, width, generator=generator, dtype=torch.float64),
        "tops": torch.randint(
            grid[0] - (side or grid[0]) + 1, (count, windows), generator=generator
        ),
        "lefts": torch.randint(
            grid[1] - (side or grid[1]) + 1, (count, windows), generator=generator
        ),
        "noise": torch.rand(count, windows, cells, generator=generator),
    }


def lomar_loss(w, batch, reference, config, positions=None):
    """Section 3 of the paper, a window and a token at a time."""
    images = batch["image"]
    count, windows = batch["tops"].shape
    grid = (images.shape[-2] // PATCH, images.shape[-1] // PATCH)
    size = (config.window_size, config.window_size) if config.window_size else grid
    noise = batch["noise"].reshape(count * windows, -1).tolist()
    num_masked = int(size[0] * size[1] * config.mask_ratio)
    errors = []
    for k in range(count * windows):
        owner, n, m = k // windows, k // windows, k % windows
        if config.windows == "batch_shared":
            owner, n, m = k % count, 0, k % windows
        image = images[owner]
        top, left = int(batch["tops"][n, m]), int(batch["lefts"][n, m])
        masked = sorted(range(size[0] * size[1]), key=noise[k].__getitem__)[:num_masked]
        tokens = [w["backbone.cls_token"][0, 0]]
        for place in range(size[0] * size[1]):
            row, column = top + place // size[1], left + place % size[1]
            if place in masked:
                token = w["mask_token"][0, 0]
            else:
                token = reference.project(image, row, column, w, "backbone.patch_embed.proj")
            if positions is not None:
                token = token + positions[row * grid[1] + column]
            tokens.append(token)
        x = reference.blocks(torch.stack(tokens), w, "backbone.blocks", 2, 2, size[1])
        y = reference.linear(reference.norm(x, w, "backbone.norm"), w, "head")[1:]
        for place in masked:
            row, column = top + place // size[1], left + place % size[1]
            target = reference.patch(image, row, column, PATCH)
            if config.target == "norm_pixels":
                target = reference.normalised(target)
            error = y[place] - target
            error = error**2 if config.distance == "l2" else error.abs()
            errors.append(error.sum() / len(target))
    return sum(errors) / len(errors)


@pytest.mark.parametrize(
    ("config", "count", "height", "width"),
    [
        (SMALL, 2, 24, 24),
        (replace(SMALL, num_windows=3, target="pixels", distance="l1"), 1, 12, 28),
        (replace(SMALL, windows="batch_shared"), 2, 24, 20),
        (replace(SMALL, windows="batch_shared", num_windows=3), 2, 16, 24),
        (replace(SMALL, window_size=0, num_windows=1, mask_ratio=0.6), 2, 8, 16),
        (replace(SMALL, window_size=6, num_windows=1), 1, 24, 28),
    ],
)
def test_loss_and_gradients(reference, parity, config, count, height, width):
    objective = parity.randomised(small(config))
    batch = batch_of(config, count, height, width)
    parity.compare(objective, batch, lambda w: lomar_loss(w, batch, reference, config))


@pytest.mark.parametrize("window_size", [3, 0])
def test_backbone_with_positions_keeps_those_of_the_image(reference, parity, window_size):
    config = replace(SMALL, window_size=window_size, num_windows=1)
    objective = parity.randomised(small(config, PLACED, img_size=16))
    batch = batch_of(config, 2, 16, 16)
    positions = reference.sincos(16, 4, 4)
    parity.compare(objective, batch, lambda w: lomar_loss(w, batch, reference, config, positions))


@pytest.mark.parametrize(("count", "windows"), [(8, 4), (6, 4), (5, 4), (4, 6)])
def test_shared_windows_pair_as_released(count, windows):
    """An image sees W / gcd(N, W) windows, as the released code pairs them."""
    tops = torch.arange(windows).expand(count, -1)
    images, patches = pair_windows(tops, tops, 2, (9, 9), "batch_shared")
    for row in range(count * windows):
        assert int(images[row]) == row % count
        corner = row % windows
        first = corner * 9 + corner
        assert patches[row].tolist() == [first, first + 1, first + 9, first + 10]
    for image in range(count):
        seen = {int(patches[row][0]) for row in range(len(images)) if images[row] == image}
        assert len(seen) == windows // gcd(count, windows)


def test_own_windows_pair_image_by_image():
    tops = torch.tensor([[0, 1], [2, 3], [4, 5]])
    images, patches = pair_windows(tops, tops, 1, (6, 7), "per_image")
    assert images.tolist() == [0, 0, 1, 1, 2, 2]
    assert patches[:, 0].tolist() == [0, 8, 16, 24, 32, 40]


def test_table_that_nothing_reads():
    objective = small()
    batch = {k: v.float() if k == "image" else v for k, v in batch_of(SMALL, 2, 24, 24).items()}
    before = objective(batch)["reconstruction"]
    objective.unused_positions.normal_()
    assert torch.equal(objective(batch)["reconstruction"], before)


def test_initial_weights():
    torch.manual_seed(0)
    shape = ViTConfig(64, 2, 2, patch_size=8, positions="none", irpe=True)
    objective = small(SMALL, shape, img_size=64)
    state = objective.state_dict()
    for name, bound in (
        ("backbone.blocks.0.attn.qkv.weight", (6 / (64 + 3 * 64)) ** 0.5),
        ("head.weight", (6 / (64 + 192)) ** 0.5),
    ):
        largest = float(state[name].abs().max())
        assert 0.97 * bound < largest <= bound, name
    assert 0.01 < float(state["mask_token"].std()) < 0.03
    assert not state["backbone.blocks.0.attn.rpe_k.lookup_table_weight"].any()


@pytest.mark.parametrize("size", [224, 384, 448])
def test_parameter_count_and_layout(keymaps, size):
    recipe = "lomar-vit-b16-400ep" if size == 224 else f"lomar-vit-b16-{size}px-400ep"
    with torch.device("meta"):
        objective = get_method("lomar").build(get_spec("lomar-vit-b16"), get_recipe(recipe))
    state = objective.official_state()
    path = keymaps / "lomar_vit_base_patch16_pretrain.json"
    shapes = json.loads(path.read_text())["state_dict"]
    shapes["pos_embed"] = [1, (size // 16) ** 2 + 1, 768]
    assert {name: list(tensor.shape) for name, tensor in state.items()} == shapes
    if size == 224:
        assert sum(v.numel() for v in state.values()) == 86_428_416


@pytest.mark.parametrize("side", [24, 32])
def test_official_weights_go_in_and_out(side):
    torch.manual_seed(0)
    source = {k: torch.randn_like(v) for k, v in small(img_size=side).official_state().items()}
    objective = small()
    objective.load_official({"model": source, "epoch": 1})
    found = objective.official_state()
    assert found.keys() == source.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in source.items())
    assert torch.equal(objective.head.bias, source["encoder_pred.bias"])


def test_misfitting_weights_are_named():
    state = small().official_state()
    state["encoder_pred.bias"] = torch.zeros(3)
    with pytest.raises(
        PreflightError, match=r"encoder_pred\.bias is \(3,\) in it and \(48,\) here"
    ):
        small().load_official(state)


GOLDEN = [
    1.53413, 1.45883, 1.39091, 1.33104, 1.27978, 1.23689, 1.20162, 1.17306, 1.15032, 1.13249,
    1.11854, 1.10733, 1.09782, 1.08920, 1.08090, 1.07262, 1.06439, 1.05637, 1.04874, 1.04162,
]  # fmt: skip


def test_twenty_steps_have_not_changed(golden):
    torch.manual_seed(0)
    batch = batch_of(SMALL, 4, 24, 24)
    golden(small(), batch | {"image": batch["image"].float()}, GOLDEN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window_size": 9}, "9 x 9 patches does not fit into 8 x 8"),
        ({"window_size": 1}, "masks 0 of a window's 1"),
    ],
)
def test_what_cannot_be_trained(change, message):
    config = get_recipe("lomar-nano")
    config = replace(config, model=replace(config.model, **change))
    with torch.device("meta"), pytest.raises(UserError, match=message):
        get_method("lomar").build(get_spec("vit-nano"), config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"windows": "shared"},
            'windows: "shared" is not supported; use "per_image" or',
        ),
        ({"distance": "l3"}, 'distance: "l3" is not supported; use "l2" or "l1"'),
        ({"num_windows": 0}, "num_windows: 0 is not supported; use a whole number of at least 1"),
        ({"window_size": -1}, "window_size: -1 is not supported; use a whole number of at least 0"),
    ],
)
def test_impossible_values(change, message):
    config = get_recipe("lomar-nano")
    with pytest.raises(UserError, match=message):
        replace(config, model=replace(config.model, **change)).resolved()


def test_other_networks_are_refused():
    with pytest.raises(UserError, match="a Linear; name one of the vit-"):
        get_method("lomar").build(
            replace(get_spec("vit-nano"), build=lambda _options: nn.Linear(1, 1)),
            get_recipe("lomar-nano"),
        )
