"""Mean and std belong to the weights: two ways to name one file give one normalisation."""

from pathlib import Path

import pytest
import timm
import torch

from backbones.catalog import get_spec, spec_for
from backbones.checkpoint import Checkpoint
from backbones.weights.formats import FORMATS
from backbones.weights.source import _HALF_IN_TIMM, open_checkpoint

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
VIT = "timm:vit_base_patch16_224"


def opened(folder: Path, options: str) -> Checkpoint:
    path = folder / "w.pth"
    torch.save({"w": torch.ones(1)}, path)
    return open_checkpoint(f"ckpt:{path}?{options}")


def norm(folder: Path, options: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    spec = spec_for(opened(folder, options))
    return spec.mean, spec.std


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("arch=beit-b16&format=beit", HALF),
        ("arch=timm:beit_base_patch16_224&format=beit", HALF),
        ("arch=vit-b16&format=timm", HALF),
        (f"arch={VIT}&format=timm", HALF),
        (f"arch={VIT}&format=mae", IMAGENET),
        (f"arch={VIT}&format=dino", IMAGENET),
        ("arch=vit-b16&format=mae", IMAGENET),
        ("arch=beit-b16&format=simmim", IMAGENET),
        ("arch=resnet50&format=timm", IMAGENET),
        (f"arch={VIT}.dino&format=timm", IMAGENET),
        ("arch=vit-b16&format=mae&mean=0.5&std=0.25,0.5,0.75", ((0.5,) * 3, (0.25, 0.5, 0.75))),
    ],
)
def test_the_format_decides_not_the_name_of_the_network(
    tmp_path: Path, options: str, expected: object
) -> None:
    assert norm(tmp_path, options) == expected


def test_networks_of_the_zoo_follow_timms_default_weights() -> None:
    twins = {
        "vit-ti16": "vit_tiny_patch16_224",
        "vit-s16": "vit_small_patch16_224",
        "vit-s8": "vit_small_patch8_224",
        "vit-b16": "vit_base_patch16_224",
        "vit-b8": "vit_base_patch8_224",
        "vit-l16": "vit_large_patch16_224",
        "vit-h14": "vit_huge_patch14_224",
        "beit-b16": "beit_base_patch16_224",
        "swin-t": "swin_tiny_patch4_window7_224",
        "resnet50": "resnet50",
    }
    for ours, theirs in twins.items():
        half = timm.models.get_pretrained_cfg(theirs).mean == HALF[0]
        assert half == (ours in _HALF_IN_TIMM), ours


def test_identity_names_a_normalisation_only_where_it_is_not_the_backbones(tmp_path: Path) -> None:
    assert opened(tmp_path, "arch=vit-b16&format=mae").layout == "mae"
    assert opened(tmp_path, f"arch={VIT}&format=timm").layout == "timm"
    said = opened(tmp_path, "arch=vit-b16&format=mae&mean=0.485,0.456,0.406")
    assert said.layout == "mae"
    half = opened(tmp_path, "arch=beit-b16&format=beit").layout
    assert half == "beit&mean=0.5,0.5,0.5&std=0.5,0.5,0.5"
    placed = opened(tmp_path, "arch=vit-b16&format=mae&key=model&prefix=encoder.")
    assert placed.layout == "mae&key=model&prefix=encoder."


def test_the_user_can_say_what_made_the_weights(tmp_path: Path) -> None:
    options = "arch=vit-b16&format=timm&method=mae&data=iNat21&epochs=400&name=mine"
    checkpoint = opened(tmp_path, options)
    assert (checkpoint.method, checkpoint.data, checkpoint.epochs) == ("mae", "iNat21", 400)


def test_every_official_method_states_its_normalisation() -> None:
    silent = {"backbench", "timm", "efficientnet"}
    for form in FORMATS.values():
        assert (form.norm is None) <= (form.name in silent or not form.method), form.name


def test_a_spec_keeps_its_own_normalisation_for_fresh_weights() -> None:
    fresh = open_checkpoint("beit-b16")
    assert spec_for(fresh).mean == get_spec("beit-b16").mean
