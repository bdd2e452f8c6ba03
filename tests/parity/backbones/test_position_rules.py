"""Position tables at other image sizes, against each method's official formula written anew."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from backbones.base.files import sha256_file
from backbones.catalog import spec_for
from backbones.checkpoint import Checkpoint
from backbones.features import Backbone
from backbones.spec import BuildOptions
from backbones.timm_networks.families import build_timm, timm_spec
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint

# Patches of 16 pixels, made for 160: 10 x 10.
ARCH, PATCH, SIDE, WIDTH = "timm:test_vit", 16, 10, 64
SIZES = (96, 160, 224, 256, 336)


def scaled(table: Tensor, grid: int, offset: float, antialias: bool) -> Tensor:
    """DINO and DINOv2: interpolate_pos_encoding with an offset in the scale factor."""
    side = math.isqrt(table.shape[1])
    if grid == side:
        return table
    picture = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factor = (grid + offset) / side
    wanted = {"scale_factor": (factor, factor)} if offset else {"size": (grid, grid)}
    picture = F.interpolate(picture, mode="bicubic", antialias=antialias, **wanted)
    return picture.permute(0, 2, 3, 1).reshape(1, grid * grid, -1)


FORMULAS = {
    "mae": lambda table, grid: scaled(table, grid, 0.0, False),
    "mocov3": lambda table, grid: scaled(table, grid, 0.0, False),
    "dino": lambda table, grid: scaled(table, grid, 0.1, False),
    "timm": lambda table, grid: scaled(table, grid, 0.0, True),
}


def written(folder: Path, img_size: int = 160) -> tuple[Path, dict[str, Tensor]]:
    torch.manual_seed(0)
    net = timm.create_model("test_vit", num_classes=0, img_size=img_size)
    state = {name: torch.randn_like(value) * 0.2 for name, value in net.state_dict().items()}
    path = folder / "w.pth"
    torch.save(state, path)
    return path, state


def expected(state: dict[str, Tensor], images: Tensor, form: str) -> Tensor:
    """The network with a table of exactly the images' size, so that nothing interpolates."""
    size = images.shape[-1]
    net = timm.create_model("test_vit", num_classes=0, img_size=size).eval()
    table = state["pos_embed"]
    patches = FORMULAS[form](table[:, 1:], size // PATCH)
    net.load_state_dict({**state, "pos_embed": torch.cat([table[:, :1], patches], dim=1)})
    return net.forward_features(images)


def loaded(path: Path, form: str, img_size: int) -> Backbone:
    checkpoint = open_checkpoint(f"ckpt:{path}?arch={ARCH}&format={form}")
    options = BuildOptions(img_size=img_size)
    return build_backbone(spec_for(checkpoint), checkpoint, options, seed=0)[0].eval()


@torch.no_grad()
@pytest.mark.parametrize("form", FORMULAS)
def test_features_are_the_official_ones_at_every_size(tmp_path: Path, form: str) -> None:
    path, state = written(tmp_path)
    for built_for in (96, 224):  # what the network is built for changes nothing
        backbone = loaded(path, form, built_for)
        for size in SIZES:
            images = torch.randn(1, 3, size, size)
            features = backbone(images, num_last_blocks=1)
            tokens = torch.cat([features.prefix_tokens[0], features.patch_tokens[0]], dim=1)
            torch.testing.assert_close(
                tokens, expected(state, images, form), rtol=1e-5, atol=1e-5, msg=f"{form} {size}"
            )


@torch.no_grad()
def test_timms_own_forward_is_what_timm_files_get(tmp_path: Path) -> None:
    path, state = written(tmp_path)
    net = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).eval()
    net.load_state_dict(state)
    for size in SIZES:
        images = torch.randn(1, 3, size, size)
        assert torch.equal(loaded(path, "timm", 224)(images).pooled, net(images))


@torch.no_grad()
@pytest.mark.parametrize("form", FORMULAS)
def test_our_own_vit_follows_the_same_rules(tmp_path: Path, form: str) -> None:
    from backbones.zoo.vit import ViTConfig, _vit

    spec = _vit("tiny", ViTConfig(WIDTH, 6, 2, mlp_ratio=3), "a test")
    path, state = written(tmp_path)
    twin = spec_for(open_checkpoint(f"ckpt:{path}?arch={ARCH}&format={form}"))
    checkpoint = open_checkpoint(f"ckpt:{path}?arch={ARCH}&format={form}")
    backbone = build_backbone(spec, checkpoint, BuildOptions(), seed=0)[0].eval()
    assert twin.channels == spec.channels
    for size in SIZES:
        images = torch.randn(1, 3, size, size)
        wanted = expected(state, images, form)[:, 0]
        torch.testing.assert_close(backbone(images).pooled, wanted, rtol=1e-5, atol=1e-5)


# The sizes nearest to 224, 256, 336 and 518 that patches of 14 fill.
@torch.no_grad()
@pytest.mark.parametrize("size", [224, 252, 336, 518])
@pytest.mark.parametrize(
    ("name", "offset", "antialias"),
    [
        ("vit_small_patch14_dinov2", 0.1, False),
        ("vit_small_patch14_dinov2.lvd142m", 0.1, False),
        ("vit_small_patch14_reg4_dinov2.lvd142m", 0.0, True),
        ("vit_small_patch16_224.dino", 0.1, False),
        ("vit_small_patch16_224.augreg_in1k", 0.0, True),
    ],
)
def test_tags_of_timm_follow_the_authors_of_their_weights(
    tmp_path: Path, name: str, offset: float, antialias: bool, size: int
) -> None:
    tiny = {"embed_dim": 48, "depth": 1, "num_heads": 3}
    spec = timm_spec(name)
    spec = replace(spec, build=partial(build_timm, name, **tiny))
    patch = spec.strides[0]
    size = size // patch * patch
    whole = timm.create_model(name.partition(".")[0], num_classes=0, **tiny)
    torch.manual_seed(0)
    state = {key: torch.randn_like(value) * 0.2 for key, value in whole.state_dict().items()}
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    checkpoint = Checkpoint(
        f"timm:{name}", path, sha256_file(path), format="timm", method="pretrained"
    )
    backbone = build_backbone(spec, checkpoint, BuildOptions(img_size=224), seed=0)[0].eval()
    sized = timm.create_model(name.partition(".")[0], num_classes=0, img_size=size, **tiny).eval()
    placed = 0 if "reg4" in name else 1
    table = state["pos_embed"]
    patches = scaled(table[:, placed:], size // patch, offset, antialias)
    sized.load_state_dict({**state, "pos_embed": torch.cat([table[:, :placed], patches], dim=1)})
    images = torch.randn(1, 3, size, size)
    torch.testing.assert_close(
        backbone(images).pooled,
        sized.forward_head(sized.forward_features(images), pre_logits=True),
        rtol=1e-5,
        atol=1e-5,
    )
