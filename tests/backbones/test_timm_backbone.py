from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from backbones.base.errors import UserError
from backbones.base.files import sha256_file
from backbones.catalog import get_spec
from backbones.checkpoint import Checkpoint
from backbones.features import Backbone
from backbones.spec import BuildOptions
from backbones.timm_networks.backbone import TimmBackbone
from backbones.timm_networks.families import build_timm
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint

BEIT = {"embed_dim": 48, "depth": 3, "num_heads": 3, "init_values": 0.1}


def built(name: str, options: BuildOptions | None = None) -> Backbone:
    checkpoint = open_checkpoint(name)
    spec = get_spec(checkpoint.backbone)
    return build_backbone(spec, checkpoint, options or BuildOptions(), seed=0)[0].eval()


def images(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_swin_features_are_timms() -> None:
    """Same weights in timm's own ``features_only`` network, which is NHWC and strict on size."""
    backbone = built("swin-nano", BuildOptions(img_size=128))
    theirs = timm.create_model(
        "swin_tiny_patch4_window7_224",
        features_only=True,
        img_size=128,
        embed_dim=32,
        depths=(1, 1, 2, 1),
        num_heads=(1, 2, 4, 8),
        window_size=4,
    ).eval()
    flat = {k.replace("layers_", "layers."): k for k in theirs.state_dict()}
    own = {k.removeprefix("net."): v for k, v in backbone.state_dict().items()}
    theirs.load_state_dict({key: own[name] for name, key in flat.items()})
    features = backbone(images(128, 128))
    for ours, other in zip(features.maps, theirs(images(128, 128)), strict=True):
        torch.testing.assert_close(ours, other.permute(0, 3, 1, 2), rtol=0, atol=1e-5)
    tokens = backbone.net.norm(features.maps[-1].permute(0, 2, 3, 1))
    torch.testing.assert_close(features.pooled, tokens.mean(dim=(1, 2)), rtol=0, atol=1e-5)


@torch.no_grad()
def test_swin_pads_before_it_shifts() -> None:
    """On a grid of 6 x 7 with windows of 4, shifted by 2: Microsoft's order, place by place."""
    torch.manual_seed(0)
    shape = {"embed_dim": 8, "depths": (2,), "num_heads": (2,), "window_size": 4}
    swin = build_timm("swin_tiny_patch4_window7_224", BuildOptions(img_size=32), **shape)
    block = swin.net.layers[0].blocks[1].double().eval()
    assert block.shift_size == (2, 2)
    height, width, side = 6, 7, 4
    x = torch.randn(1, height, width, 8, dtype=torch.float64)
    normed = block.norm1(x)[0]
    padded = torch.zeros(8, 8, 8, dtype=torch.float64)
    padded[:height, :width] = normed
    expected = torch.zeros_like(padded)

    def stripe(place: int) -> int:
        return 0 if place < 4 else 1 if place < 6 else 2

    for top in (0, 4):
        for left in (0, 4):
            places = [(top + i, left + j) for i in range(side) for j in range(side)]
            # A place of the shifted grid, and where it was before.
            sources = [((r + 2) % 8, (c + 2) % 8) for r, c in places]
            tokens = torch.stack([padded[r, c] for r, c in sources])
            areas = [(stripe(r), stripe(c)) for r, c in places]
            mask = torch.tensor([[0.0 if a == b else -100.0 for b in areas] for a in areas])
            out = block.attn(tokens[None], mask=mask[None].double())[0]
            for (r, c), value in zip(sources, out, strict=True):
                expected[r, c] = value
    found = block._attn(normed[None])[0]
    torch.testing.assert_close(found, expected[:height, :width], rtol=1e-9, atol=1e-12)


def test_swin_layers_are_microsofts() -> None:
    """Depths 1-1-2-1: the merging behind stage s counts with that stage's last block."""
    backbone = built("swin-nano")
    expected = {
        "net.patch_embed.proj.weight": 0,
        "net.layers.0.blocks.0.norm1.weight": 1,
        "net.layers.1.downsample.reduction.weight": 1,
        "net.layers.1.blocks.0.attn.relative_position_bias_table": 2,
        "net.layers.2.downsample.norm.weight": 2,
        "net.layers.2.blocks.0.mlp.fc1.weight": 3,
        "net.layers.2.blocks.1.mlp.fc1.weight": 4,
        "net.layers.3.downsample.reduction.weight": 4,
        "net.layers.3.blocks.0.norm2.bias": 5,
        "net.norm.weight": 6,
    }
    assert {name: backbone.layer_id(name) for name in expected} == expected


def test_resnet_layers_are_stages() -> None:
    backbone = built("resnet-nano")
    assert backbone.layer_id("net.conv1.0.weight") == 0
    assert backbone.layer_id("net.layer3.0.bn1.weight") == 3
    assert backbone.num_layers == 4


@torch.no_grad()
def test_resnet_needs_no_padding_at_odd_sizes() -> None:
    backbone = built("resnet-nano")
    odd = images(100, 76)  # divides by the stem's stride alone
    for ours, other in zip(
        backbone(odd).maps, backbone.net.forward_intermediates(odd)[1][1:], strict=True
    ):
        assert torch.equal(ours, other)


@torch.no_grad()
@pytest.mark.parametrize("name", ["swin-nano", "random:timm:test_convnext", "random:timm:test_vit"])
def test_padding_is_zeros_right_and_bottom(name: str) -> None:
    backbone = built(name)
    odd = images(50, 61)
    multiple = backbone.strides[0] if name == "swin-nano" else backbone.strides[-1]
    padded = torch.zeros(2, 3, 50 + -50 % multiple, 61 + -61 % multiple)
    padded[..., :50, :61] = odd
    for ours, whole, stride in zip(
        backbone(odd).maps, backbone(padded).maps, backbone.strides, strict=True
    ):
        height, width = -(-50 // stride), -(-61 // stride)
        assert ours.shape[-2:] == (height, width)
        assert torch.equal(ours, whole[..., :height, :width])


@torch.no_grad()
def test_vit_features_are_timms() -> None:
    backbone = built("random:timm:test_vit", BuildOptions(img_size=160))
    theirs = timm.create_model("test_vit", num_classes=0).eval()
    theirs.load_state_dict({k.removeprefix("net."): v for k, v in backbone.state_dict().items()})
    batch = images(160, 160)
    features = backbone(batch, num_last_blocks=2)
    torch.testing.assert_close(features.pooled, theirs(batch), rtol=0, atol=1e-5)
    expected = theirs.forward_features(batch)
    torch.testing.assert_close(features.prefix_tokens[-1], expected[:, :1], rtol=0, atol=1e-5)
    torch.testing.assert_close(features.patch_tokens[-1], expected[:, 1:], rtol=0, atol=1e-5)
    assert len(features.patch_tokens) == 2
    torch.testing.assert_close(features.maps[0], backbone(batch).maps[0], rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", ["swin-nano", "random:timm:test_vit"])
def test_tokens_leave_everything_else_as_it_was(name: str) -> None:
    backbone, batch = built(name), images(64, 96)
    plain, asked = backbone(batch), backbone(batch, num_last_blocks=3)
    assert plain.patch_tokens == ()
    assert len(asked.patch_tokens) == len(asked.prefix_tokens) == 3
    torch.testing.assert_close(asked.pooled, plain.pooled, rtol=0, atol=1e-6)
    for one, other in zip(asked.maps, plain.maps, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@torch.no_grad()
def test_swin_tokens_are_block_outputs_of_the_last_two_stages() -> None:
    backbone, batch = built("swin-nano"), images(64, 64)
    features = backbone(batch, num_last_blocks=3)
    stage3, stage4 = features.maps[2:]
    torch.testing.assert_close(features.patch_tokens[1], stage3.flatten(2).transpose(1, 2))
    normed = backbone.net.norm(stage4.flatten(2).transpose(1, 2))
    torch.testing.assert_close(features.patch_tokens[2], normed)
    assert features.prefix_tokens[0].shape == (2, 0, 128)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::UserWarning")  # of timm's own interpolation
@pytest.mark.parametrize("size", [(128, 128), (192, 192), (160, 208)])
def test_beit_is_timms_at_any_grid(size: tuple[int, int]) -> None:
    ours = build_timm("beit_base_patch16_224", BuildOptions(img_size=128), **BEIT).eval()
    theirs = timm.create_model(
        "beit_base_patch16_224", img_size=128, num_classes=0, global_pool="token", **BEIT
    ).eval()
    for i, block in enumerate(theirs.blocks):
        block.attn.relative_position_bias_table.normal_()
        block.attn.q_bias.normal_()
        block.attn.v_bias.normal_()
        ours.bias_tables[i].copy_(block.attn.relative_position_bias_table)
    own = ours.state_dict()
    own |= {ours.own_name(name): tensor for name, tensor in theirs.state_dict().items()}
    ours.load_state_dict(own)
    theirs.set_input_size(img_size=size)
    tokens = theirs.forward_features(images(*size))
    features = ours(images(*size), num_last_blocks=1)
    torch.testing.assert_close(features.prefix_tokens[0], tokens[:, :1], rtol=0, atol=2e-4)
    torch.testing.assert_close(features.patch_tokens[0], tokens[:, 1:], rtol=0, atol=2e-4)
    torch.testing.assert_close(features.pooled, tokens[:, 1:].mean(dim=1), rtol=0, atol=2e-4)


def test_beit_files_of_timm_load_at_any_size(tmp_path: Path) -> None:
    theirs = timm.create_model("beit_base_patch16_224", img_size=64, num_classes=10, **BEIT).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.1)
    path = tmp_path / "beit.pth"
    torch.save(theirs.state_dict(), path)
    spec = replace(get_spec("beit-b16"), build=partial(build_timm, "beit_base_patch16_224", **BEIT))
    checkpoint = Checkpoint("beit-b16", path, sha256_file(path), format="timm")
    for side, resized in ((64, 0), (112, 3)):
        ours, coverage = build_backbone(spec, checkpoint, BuildOptions(img_size=side), seed=0)
        assert coverage.loaded == coverage.total
        assert len(coverage.resized) == resized
        if side == 64:
            fed = theirs.forward_head(theirs.forward_features(images(64, 64)), pre_logits=True)
            torch.testing.assert_close(ours.eval()(images(64, 64)).pooled, fed, rtol=0, atol=1e-5)


def test_beit_recomputes_and_spares_its_tables_from_decay() -> None:
    backbone = build_timm("beit_base_patch16_224", BuildOptions(img_size=64), **BEIT)
    assert "bias_tables.2" in backbone.no_weight_decay()
    assert "net.cls_token" in backbone.no_weight_decay()
    assert backbone.layer_id("bias_tables.2") == 3


@pytest.mark.parametrize("name", ["swin-nano", "resnet-nano", "random:timm:test_vit"])
def test_recomputation_really_recomputes(name: str) -> None:
    backbone = built(name)
    calls = {"forward": 0}
    module = next(m for n, m in backbone.named_modules() if n.endswith(("fc1", "layer1.0.conv1")))
    module.register_forward_hook(lambda *_: calls.update(forward=calls["forward"] + 1))
    backbone.set_activation_checkpointing(True)
    backbone.forward_maps(images(64, 64))[-1].sum().backward()
    assert calls["forward"] == 2


def test_what_cannot_recompute_says_so() -> None:
    backbone = built("random:timm:test_vit")
    assert isinstance(backbone, TimmBackbone)
    backbone.net.set_grad_checkpointing = _refuse
    with pytest.raises(UserError, match="cannot recompute"):
        backbone.set_activation_checkpointing(True)


def _refuse(enabled: bool) -> None:
    assert not enabled, "gradient checkpointing not supported"


def test_drop_path_reaches_the_network() -> None:
    names = ("swin-nano", "resnet-nano", "random:timm:test_vit")
    for name in names:
        kinds = {type(m).__name__ for m in built(name, BuildOptions(drop_path=0.3)).modules()}
        assert "DropPath" in kinds
        assert "DropPath" not in {type(m).__name__ for m in built(name).modules()}


def test_mean_and_std_are_the_weights_own() -> None:
    assert get_spec("timm:vit_base_patch16_224").mean == (0.5, 0.5, 0.5)
    assert get_spec("timm:resnet50").mean == (0.485, 0.456, 0.406)


def test_networks_of_fixed_size_say_so() -> None:
    with torch.device("meta"):
        backbone = get_spec("timm:hiera_tiny_224").build(BuildOptions())
    backbone.forward_maps(torch.empty(1, 3, 224, 224, device="meta"))
    with pytest.raises(UserError, match="Hiera does not run on images of 256 x 192") as caught:
        backbone.forward_maps(torch.empty(1, 3, 192, 256, device="meta"))
    assert "\n" not in str(caught.value)


def test_networks_whose_maps_do_not_cover_the_image_are_refused() -> None:
    with torch.device("meta"):
        backbone = get_spec("timm:inception_v3").build(BuildOptions())
    with pytest.raises(UserError, match="smaller than the image"):
        backbone.forward_maps(torch.empty(1, 3, 224, 224, device="meta"))


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("convnext_tiny", (4, 8, 16, 32)),
        ("vit_small_patch14_dinov2", (14,)),
        ("pvt_v2_b0", (4, 8, 16, 32)),
        ("swinv2_tiny_window8_256", (4, 8, 16, 32)),
        ("efficientnet_b0", (4, 8, 16, 32)),
        ("regnety_004", (4, 8, 16, 32)),
    ],
)
def test_other_families_keep_the_contract_at_odd_sizes(name: str, strides: tuple[int, ...]) -> None:
    spec = get_spec(f"timm:{name}")
    assert spec.strides == strides
    with torch.device("meta"):
        backbone = spec.build(BuildOptions()).eval()
        maps = backbone.forward_maps(torch.empty(1, 3, 130, 201))
    for found, stride, channels in zip(maps, strides, spec.channels, strict=True):
        assert found.shape == (1, channels, -(-130 // stride), -(-201 // stride))
    ids = {backbone.layer_id(name) for name, _ in backbone.named_parameters()}
    assert set(range(spec.num_layers + 1)) <= ids
