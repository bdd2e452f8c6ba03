"""Colour, blur and solarization: torchvision's values, probabilities kept, the generator alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms import ColorJitter
from torchvision.transforms.v2 import functional as TF

from pretrain.config import PretrainDataConfig
from pretrain.parts.views.crop import draw_view
from pretrain.parts.views.photometric import (
    DINO_GLOBAL_1,
    DINO_GLOBAL_2,
    DINO_LOCAL,
    MOCOV3_VIEW_1,
    MOCOV3_VIEW_2,
    Photometric,
    distort,
    jitter_colors,
)

NEVER = Photometric(jitter_probability=0.0, grey_probability=0.0)


@pytest.fixture
def photo():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def same(a, b):
    return a.size == b.size and np.array_equal(np.asarray(a), np.asarray(b))


def test_nothing_drawn_is_nothing_done(photo):
    assert same(distort(photo, NEVER, seeded()), photo)


@pytest.mark.parametrize("config", [DINO_GLOBAL_1, DINO_GLOBAL_2, DINO_LOCAL])
def test_the_generator_alone_decides(photo, config):
    torch.manual_seed(1)
    once = [distort(photo, config, seeded(i)) for i in range(10)]
    torch.manual_seed(2)
    again = [distort(photo, config, seeded(i)) for i in range(10)]
    assert all(map(same, once, again))
    assert not all(same(once[0], other) for other in once[1:])
    assert all(image.mode == "RGB" and image.size == photo.size for image in once)


def test_colour_jitter_is_torchvisions(photo, monkeypatch):
    """Same draws, by way of torchvision's own ColorJitter."""
    amounts = (0.4, 0.4, 0.2, 0.1)
    for seed in range(8):
        draws = seeded(seed)
        order = torch.randperm(4, generator=draws)
        b, c, s = (
            1 - amount + 2 * amount * float(torch.rand((), generator=draws))
            for amount in amounts[:3]
        )
        h = amounts[3] * (2 * float(torch.rand((), generator=draws)) - 1)
        fixed = staticmethod(lambda *_, drawn=(order, b, c, s, h): drawn)
        monkeypatch.setattr(ColorJitter, "get_params", fixed)
        expected = ColorJitter(*amounts)(photo)
        assert same(jitter_colors(photo, amounts, seeded(seed)), expected)


def test_each_distortion_is_what_its_name_says(photo):
    grey = distort(photo, replace(NEVER, grey_probability=1.0), seeded())
    expected = TF.rgb_to_grayscale(photo, num_output_channels=3)
    assert same(grey, expected)

    blurred = distort(photo, replace(NEVER, blur_probability=1.0, blur_radius=(1.5, 1.5)), seeded())
    assert same(blurred, photo.filter(ImageFilter.GaussianBlur(1.5)))

    bright = distort(photo, replace(NEVER, solarize_probability=1.0), seeded())
    before = np.asarray(photo).astype(int)
    assert np.array_equal(np.asarray(bright), np.where(before < 128, before, 255 - before))


def test_jitter_of_nothing_leaves_the_image(photo):
    assert same(jitter_colors(photo, (0.0, 0.0, 0.0, 0.0), seeded()), photo)


def test_jitter_reaches_both_ends_of_each_range():
    mid = Image.new("RGB", (2, 2), (100, 100, 100))
    values = [
        float(np.asarray(jitter_colors(mid, (0.4, 0.0, 0.0, 0.0), seeded(i))).mean())
        for i in range(300)
    ]
    assert 60 <= min(values) < 63
    assert 137 < max(values) <= 140


@pytest.mark.parametrize(
    ("config", "blur", "solarize"),
    [
        (DINO_GLOBAL_1, 1.0, 0.0),
        (DINO_GLOBAL_2, 0.1, 0.2),
        (DINO_LOCAL, 0.5, 0.0),
        (MOCOV3_VIEW_1, 1.0, 0.0),
        (MOCOV3_VIEW_2, 0.1, 0.2),
    ],
)
def test_named_sets_distort_as_often_as_published(photo, monkeypatch, config, blur, solarize):
    calls = {"jitter": 0, "grey": 0, "blur": 0, "solarize": 0}

    def count(name):
        def called(image, *_):
            calls[name] += 1
            return image

        return called

    monkeypatch.setattr("pretrain.parts.views.photometric.jitter_colors", count("jitter"))
    monkeypatch.setattr(ImageOps, "grayscale", count("grey"))
    monkeypatch.setattr(Image.Image, "filter", count("blur"))
    monkeypatch.setattr(ImageOps, "solarize", count("solarize"))
    generator, trials = seeded(), 3000
    for _ in range(trials):
        distort(photo, config, generator)
    shares = {name: number / trials for name, number in calls.items()}
    # Four standard deviations of a share are at most 0.037.
    assert shares == pytest.approx(
        {"jitter": 0.8, "grey": 0.2, "blur": blur, "solarize": solarize}, abs=0.037
    )


def test_a_view_is_a_distorted_crop(photo):
    data = PretrainDataConfig(img_size=8, flip=1.0, crop_scale=(0.5, 1.0))
    plain = draw_view(photo, data, NEVER, seeded(4))
    unflipped = draw_view(photo, replace(data, flip=0.0), NEVER, seeded(4))
    assert plain.shape == (3, 8, 8)
    assert plain.dtype == torch.uint8
    assert torch.equal(plain, unflipped.flip(-1))
    colored = draw_view(photo, data, replace(NEVER, grey_probability=1.0), seeded(4))
    assert torch.equal(colored[0], colored[1])
    assert not torch.equal(colored, plain)
