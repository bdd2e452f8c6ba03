"""Views and draws of the masked image methods."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as official

from backbones.catalog import get_spec
from pretrain.catalog import get_recipe
from pretrain.config import PretrainDataConfig
from pretrain.method import get_method
from pretrain.parts.masked.masking import draw_blocks, draw_noise, draw_squares, split_by_noise
from pretrain.parts.masked.patches import patchify, unpatchify
from pretrain.parts.masked.windows import draw_windows
from pretrain.parts.views.crop import draw_box, draw_crop
from pretrain.recipes import lomar, mae, simmim

RECIPES = (
    "mae-nano",
    "lomar-nano",
    "simmim-nano",
    "simmim-vit-nano",
    "masked-global-vit-b16-800ep",
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def photo(width=90, height=70):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("recipe", RECIPES)
def test_views_depend_on_the_generator_alone(recipe):
    config = get_recipe(recipe)
    views = get_method(config.method).views(get_spec(config.backbone), config)
    views = pickle.loads(pickle.dumps(views))
    torch.manual_seed(1)
    first = views(photo(), seeded())
    torch.manual_seed(2)
    second = views(photo(), seeded())
    other = views(photo(), seeded(1))
    size = config.data.img_size
    assert first["image"].shape == (3, size, size)
    assert first["image"].dtype == torch.uint8
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        assert value.shape == other[name].shape, name
        assert value.is_contiguous(), name
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize("recipe", RECIPES[:4])
def test_objective_takes_what_views_make(recipe):
    config = get_recipe(recipe)
    method, spec = get_method(config.method), get_spec(config.backbone)
    views = method.views(spec, config)
    made = [views(photo(40 + 9 * seed, 60), seeded(seed)) for seed in range(2)]
    batch = {name: torch.stack([one[name] for one in made]) for name in made[0]}
    objective = method.build(spec, config)
    batch["image"] = batch["image"] / 128.0 - 1
    loss = objective(batch)["reconstruction"]
    loss.backward()
    silent = [
        name
        for name, p in objective.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert silent == []
    (picture,) = objective.pictures(batch).values()
    assert picture.shape[0] == 2
    assert picture.shape[1] % 3 == 0


@pytest.mark.parametrize("recipe", RECIPES[:4])
def test_bf16_losses_are_within_a_hundredth(recipe):
    config = get_recipe(recipe)
    method, spec = get_method(config.method), get_spec(config.backbone)
    views = method.views(spec, config)
    torch.manual_seed(0)
    objective = method.build(spec, config)
    made = [views(photo(), seeded(seed)) for seed in range(4)]
    batch = {name: torch.stack([one[name] for one in made]) for name in made[0]}
    batch["image"] = batch["image"] / 128.0 - 1
    full = objective(batch)["reconstruction"].item()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = objective(batch)["reconstruction"]
    assert mixed.dtype == torch.float32
    mixed.backward()
    assert mixed.item() == pytest.approx(full, rel=0.01)


def test_picture_of_normalised_pixels_has_the_true_statistics():
    config = get_recipe("mae-nano")
    method, spec = get_method("mae"), get_spec("vit-nano")
    objective = method.build(spec, config)
    with torch.no_grad():
        for parameter in objective.decoder.pred.parameters():
            parameter.zero_()
    image = torch.randn(2, 3, 64, 64, generator=seeded())
    batch = {"image": image, "noise": torch.rand(2, 64, generator=seeded())}
    (picture,) = objective.pictures(batch).values()
    shown, masked, rebuilt = (patchify(picture[:, i], 8) for i in range(3))
    assert torch.equal(shown, patchify(image, 8))
    hidden = (masked == 0).all(dim=-1)
    assert hidden.sum(dim=1).tolist() == [48, 48]
    means = shown[hidden].mean(dim=-1, keepdim=True).expand(-1, shown.shape[-1])
    torch.testing.assert_close(rebuilt[hidden], means)
    assert torch.equal(rebuilt[~hidden], shown[~hidden])


def test_patches_go_there_and_back():
    images = torch.randn(2, 3, 12, 20)
    patches = patchify(images, 4)
    assert patches.shape == (2, 15, 48)
    assert torch.equal(patches[1, 7].reshape(4, 4, 3)[2, 3], images[1, :, 4 + 2, 8 + 3])
    assert torch.equal(unpatchify(patches, (3, 5), 4), images)


def test_smallest_noise_comes_first_and_ties_rank_by_place():
    noise = torch.tensor([[0.3, 0.1, 0.3, 0.2], [0.0, 0.0, 0.0, 0.0]])
    first, rest = split_by_noise(noise, 2)
    assert first.tolist() == [1, 3, 4, 5]
    assert rest.tolist() == [0, 2, 6, 7]


def test_grid_sampling_keeps_one_of_four():
    noise = draw_noise("grid", (4, 6), 0.75, seeded())
    kept, _ = split_by_noise(noise[None], 6)
    assert sorted(kept.tolist()) == [0, 2, 4, 12, 14, 16]


@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_block_sampling_masks_rectangles(ratio):
    target = 196 - int(196 * (1 - ratio))
    neighbours = {"block": [], "random": []}
    for seed in range(20):
        covered = draw_blocks((14, 14), target, seeded(seed))
        assert target - 40 <= int(covered.sum()) <= target
        for sampling, found in neighbours.items():
            noise = draw_noise(sampling, (14, 14), ratio, seeded(seed))
            _, masked = split_by_noise(noise[None], 196 - target)
            mask = torch.zeros(196)
            mask[masked] = 1
            image = mask.view(14, 14)
            found.append(float((image[:, 1:] == image[:, :-1]).float().mean()))
    assert np.mean(neighbours["block"]) > np.mean(neighbours["random"]) + 0.15


def test_squares_are_rounded_up():
    for grid, count in (((6, 6), 22), ((7, 7), 30)):
        mask = draw_squares(grid, 0.6, seeded())
        assert mask.shape == grid
        assert int(mask.sum()) == count


def test_windows_do_not_repeat_a_row_or_column():
    for seed in range(20):
        for places in draw_windows(8, (14, 14), 7, seeded(seed)):
            assert sorted(places.tolist()) == list(range(8))
    tops, lefts = draw_windows(5, (4, 9), 3, seeded())
    assert sorted(tops.tolist())[:4] == [0, 0, 1, 1]
    assert len(set(lefts.tolist())) == 5


def test_box_stays_inside_and_within_its_ranges():
    data = PretrainDataConfig(crop_scale=(0.2, 1.0))
    areas, ratios = [], []
    for seed in range(300):
        left, top, right, bottom = draw_box(120, 100, data, seeded(seed))
        assert 0 <= left < right <= 120
        assert 0 <= top < bottom <= 100
        areas.append((right - left) * (bottom - top) / 12_000)
        ratios.append((right - left) / (bottom - top))
    assert 0.18 < min(areas) < 0.25
    assert 0.9 < max(areas) <= 1
    assert 0.73 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 1.36


def test_box_of_a_thin_image_is_central():
    left, top, right, bottom = draw_box(
        400, 10, PretrainDataConfig(crop_scale=(1.0, 1.0)), seeded()
    )
    assert (top, bottom) == (0, 10)
    assert right - left == round(10 * 4 / 3)
    assert left == (400 - (right - left)) // 2


def test_augmentations():
    data = replace(PretrainDataConfig(img_size=48), flip=0.0)
    image = photo()
    plain = draw_crop(image, data, "none", seeded(0))
    assert torch.equal(plain, draw_crop(image, data, "none", seeded(1)))
    cut = draw_crop(image, data, "fixed_crop", seeded(0))
    assert not torch.equal(cut, draw_crop(image, data, "fixed_crop", seeded(3)))
    crop, color = (draw_crop(image, data, kind, seeded(0)) for kind in ("crop", "crop_color"))
    assert not torch.equal(crop, color)
    flipped = draw_crop(image, replace(data, flip=1.0), "crop", seeded(0))
    assert torch.equal(flipped, crop.flip(-1))
    for made in (plain, cut, crop, color):
        assert made.shape == (3, 48, 48)
        assert made.dtype == torch.uint8


def test_crop_is_torchvision_s():
    """The same box through torchvision's own crop and resize."""
    data = replace(PretrainDataConfig(img_size=32), flip=0.0)
    box = draw_box(90, 70, data, seeded(5))
    expected = official.resized_crop(
        photo(),
        box[1],
        box[0],
        box[3] - box[1],
        box[2] - box[0],
        [32, 32],
        official.InterpolationMode.BICUBIC,
    )
    found = draw_crop(photo(), data, "crop", seeded(5))
    assert np.array_equal(found.permute(1, 2, 0).numpy(), np.asarray(expected))


@pytest.mark.parametrize("module", [lomar, mae, simmim])
def test_every_recipe_is_possible(module):
    for recipe, make in module.RECIPES.items():
        config = make().resolved()
        assert config.method in ("mae", "lomar", "simmim"), recipe
        spec = get_spec(config.backbone)
        views = get_method(config.method).views(spec, config)
        made = views(photo(), seeded())
        if config.method == "mae":
            assert len(made["noise"]) == (config.data.img_size // spec.strides[0]) ** 2
        assert math.isfinite(config.optim.scaled(config.schedule.batch_size))
