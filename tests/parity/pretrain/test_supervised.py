"""Supervised training against its formulas in float64: mixing, smoothing, cross-entropy."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from backbones.base.errors import UserError
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.training.optim import parameter_groups
from backbones.vit.config import ViTConfig
from backbones.vit.network import VisionTransformer
from pretrain.catalog import get_recipe
from pretrain.config import PretrainDataConfig
from pretrain.method import get_method
from pretrain.methods.supervised import SupervisedObjective, SupervisedViews
from pretrain.parts.views.mixing import draw_mixing, mix
from pretrain.recipes.supervised import SupervisedConfig

PLAIN = ViTConfig(16, 2, 2, patch_size=4, positions="sincos")
NOTHING = SupervisedConfig(
    rand_magnitude=0, erase=0.0, mixup=0.0, cutmix=0.0, label_smoothing=0.0, drop_path=0.0
)
GREY = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def plain(config=NOTHING):
    backbone = VisionTransformer(PLAIN, BuildOptions(img_size=16))
    return SupervisedObjective(backbone, torch.nn.Linear(16, 5), config)


def batch_of(count, size, seed=1):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)
    share = torch.rand(count, generator=generator, dtype=torch.float64)
    box = torch.zeros(count, 4, dtype=torch.int64)
    box[0] = torch.tensor([2, 0, 9, 13])
    box[1:2] = torch.tensor([0, 5, size, size])
    share[0] = 1.0
    label = torch.randint(5, (count,), generator=generator)
    return {"image": image, "share": share, "box": box, "label": label}


def mixed(batch, i):
    """Image i a pixel at a time, and the part of it that is its own."""
    image, other = batch["image"][i], batch["image"][len(batch["image"]) - 1 - i]
    top, left, bottom, right = batch["box"][i].tolist()
    share = batch["share"][i]
    out, own = image.clone(), 0
    height, width = image.shape[1:]
    for y in range(height):
        for x in range(width):
            kept = 0 if top <= y < bottom and left <= x < right else share
            out[:, y, x] = kept * image[:, y, x] + (1 - kept) * other[:, y, x]
            own = own + kept / (height * width)
    return out, own


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients(reference, parity, count, smoothing):
    torch.manual_seed(0)
    objective = parity.randomised(plain(replace(NOTHING, label_smoothing=smoothing)))
    batch = batch_of(count, 16)
    positions = reference.sincos(16, 4, 4)

    def loss(w):
        total = 0
        for i in range(count):
            image, own = mixed(batch, i)
            tokens = [w["backbone.cls_token"][0, 0]]
            for place in range(16):
                stem = "backbone.patch_embed.proj"
                embedded = reference.project(image, *divmod(place, 4), w, stem)
                tokens.append(embedded + positions[place])
            x = reference.blocks(torch.stack(tokens), w, "backbone.blocks", 2, 2)
            x = reference.norm(x, w, "backbone.norm")[:1]
            logits = reference.linear(x, w, "head")[0]
            wanted = torch.full((5,), smoothing / 5, dtype=torch.float64)
            wanted[batch["label"][i]] += (1 - smoothing) * own
            wanted[batch["label"][count - 1 - i]] += (1 - smoothing) * (1 - own)
            logs = logits - torch.log(torch.exp(logits).sum())
            total = total - (wanted * logs).sum() / count
        return total

    parity.compare(objective, batch, loss)


def test_top1_counts_the_label_with_the_larger_part():
    objective = plain().double()
    batch = batch_of(2, 16) | {"share": torch.tensor([0.9, 0.2]), "label": torch.tensor([1, 3])}
    batch["box"].zero_()
    with torch.no_grad():
        objective.head.weight.zero_()
        objective.head.bias[1] = 1.0
    objective(batch)
    assert float(objective.metrics()["top1"]) == 100.0
    with torch.no_grad():
        objective.head.bias[3] = 2.0
    objective(batch)
    assert float(objective.metrics()["top1"]) == 0.0


def test_drawn_shares_and_squares_have_the_distribution_of_their_papers():
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_mixing(0.8, 1.0, 32, generator) for _ in range(2000)]
    pasted = [d for d in drawn if d["share"] == 1.0]
    assert 0.45 < len(pasted) / len(drawn) < 0.55
    shares = torch.stack([d["share"] for d in drawn if d["share"] < 1.0])
    # Beta(a, a) has mean 1 / 2 and variance 1 / (4 (2 a + 1)).
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.04)
    assert float(shares.var()) == pytest.approx(1 / (4 * 2.6), rel=0.1)
    boxes = torch.stack([d["box"] for d in pasted])
    assert bool((boxes[:, :2] >= 0).all())
    assert bool((boxes[:, 2:] <= 32).all())
    assert int((boxes[:, 2:] - boxes[:, :2]).max()) > 28
    alone = draw_mixing(0.0, 0.0, 32, generator)
    assert float(alone["share"]) == 1.0
    assert alone["box"].tolist() == [0, 0, 0, 0]
    assert all(draw_mixing(0.0, 1.0, 32, generator)["share"] == 1.0 for _ in range(20))
    assert all(not draw_mixing(0.8, 0.0, 32, generator)["box"].any() for _ in range(20))


def test_nothing_mixed_is_the_image_itself():
    batch = batch_of(3, 16)
    images, own = mix(batch["image"], torch.ones(3), torch.zeros(3, 4, dtype=torch.int64))
    assert torch.equal(images, batch["image"])
    assert own.tolist() == [1.0, 1.0, 1.0]


@pytest.fixture
def photo():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_views_draw_from_their_generator_alone(photo):
    config = SupervisedConfig(erase=1.0)
    views = SupervisedViews(PretrainDataConfig(img_size=24), config, *GREY)
    random.seed(1)
    state = random.getstate()
    once = views(photo, torch.Generator().manual_seed(0))
    assert random.getstate() == state
    random.seed(2)
    torch.manual_seed(2)
    again = views(photo, torch.Generator().manual_seed(0))
    assert once.keys() == again.keys() == {"image", "share", "box"}
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert once["image"].shape == (3, 24, 24)
    assert once["image"].dtype == torch.uint8
    other = views(photo, torch.Generator().manual_seed(1))
    assert not torch.equal(once["image"], other["image"])


def test_randaugment_distorts_and_can_be_left_out(photo):
    """All operations happen to some of many images; none without RandAugment."""
    data = PretrainDataConfig(img_size=24)
    plain_views = SupervisedViews(data, NOTHING, *GREY)
    views = SupervisedViews(data, replace(NOTHING, rand_magnitude=9), *GREY)
    assert len(views.operations) == 15
    assert plain_views.operations == ()
    distorted = 0
    for seed in range(40):
        seen, untouched = (
            v(photo, torch.Generator().manual_seed(seed))["image"] for v in (views, plain_views)
        )
        distorted += not torch.equal(seen, untouched)
    # Each of two operations happens with probability a half.
    assert 20 < distorted < 40


def test_erased_rectangles_are_noise():
    data = PretrainDataConfig(img_size=64)
    grey = Image.new("RGB", (80, 80), (7, 7, 7))
    views = SupervisedViews(data, replace(NOTHING, erase=1.0), *GREY)
    pixels = torch.stack(
        [views(grey, torch.Generator().manual_seed(seed))["image"] for seed in range(30)]
    )
    erased = (pixels != 7).any(dim=1)
    shares = erased.float().mean(dim=(1, 2))
    assert float(shares.min()) > 0.01
    assert float(shares.max()) < 0.36
    noise = pixels.permute(0, 2, 3, 1)[erased].float()
    assert float(noise.mean()) == pytest.approx(127.5, abs=2)
    assert 55 < float(noise.std()) < 64


def test_what_decays():
    config = get_recipe("supervised-swin-t-300ep")
    config = replace(config, data=replace(config.data, img_size=64, num_classes=3))
    objective = get_method("supervised").build(get_spec("swin-nano"), config)
    decayed, spared = parameter_groups(objective, config.optim)
    assert "head.weight" in decayed.names
    assert any("relative_position_bias_table" in name for name in spared.names)
    assert "head.bias" in spared.names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixup": -1.0}, "model.mixup: -1.0 is not supported; use a number of at least 0"),
        (
            {"erase": 2.0},
            "model.erase: 2.0 is not supported; use .* and at most 1",
        ),
        ({"rand_operations": -1}, "model.rand_operations: -1 is not supported; use a whole number"),
    ],
)
def test_impossible_settings(change, message):
    config = get_recipe("supervised-nano")
    with pytest.raises(UserError, match=message):
        replace(config, model=replace(config.model, **change)).resolved()


def test_classes_have_to_be_known():
    config = get_recipe("supervised-nano")
    with pytest.raises(UserError, match=r"needs data\.num_classes"):
        get_method("supervised").build(get_spec("vit-nano"), config)
