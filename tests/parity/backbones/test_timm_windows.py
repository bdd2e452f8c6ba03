"""timm's plain ViTs under ViTDet's rules, against our ViT and against plain formulas."""

import math
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.base.files import sha256_file
from backbones.catalog import get_spec
from backbones.checkpoint import Checkpoint
from backbones.spec import BuildOptions
from backbones.timm_networks.families import build_timm
from backbones.timm_networks.plain import DenseBeitBackbone, DensePlainBackbone
from backbones.vit.network import VisionTransformer, ViTConfig
from backbones.weights.loading import build_backbone

SMALL = {"embed_dim": 48, "depth": 4, "num_heads": 4}
WINDOWS = BuildOptions(img_size=96, window_size=4, relative_positions=True)
# 7 x 6 patches: windows of 4 are padded on both sides.
SIZE = (112, 96)


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0)).to(dtype)


def shaken(net: nn.Module) -> nn.Module:
    """Give every parameter a random value, so that nothing is hidden by zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return net


@pytest.mark.parametrize(
    ("options", "theirs", "ours"),
    [
        (WINDOWS, {}, {}),
        (BuildOptions(img_size=96, relative_positions=True), {}, {}),
        (BuildOptions(img_size=96, window_size=4), {"reg_tokens": 4},
         {"num_registers": 4, "prefix_positions": "all"}),
        (WINDOWS, {"reg_tokens": 4, "no_embed_class": True, "init_values": 0.1},
         {"num_registers": 4, "prefix_positions": "none", "layer_scale": 0.1}),
        (WINDOWS, {"class_token": False, "global_pool": "avg", "fc_norm": False, "qkv_bias": False},
         {"cls_token": False, "pooling": "mean", "qkv_bias": False}),
        (BuildOptions(img_size=96, window_size=4, tile_positions=True), {}, {}),
    ],
    ids=["windows", "global", "registers", "LayerScale", "no cls, no bias", "tiled"],
)  # fmt: skip
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_maps_and_gradients_are_those_of_our_vit(
    options: BuildOptions, theirs: dict, ours: dict, dtype: torch.dtype, close: float
) -> None:
    dense = build_timm("vit_base_patch16_224", options, img_size=64, **SMALL, **theirs)
    assert isinstance(dense, DensePlainBackbone)
    own = VisionTransformer(ViTConfig(48, 4, 4, **ours), options)
    shaken(dense.to(dtype))
    state = {name.removeprefix("net."): tensor for name, tensor in dense.state_dict().items()}
    own.to(dtype).load_state_dict(state)
    results = []
    for net in (dense, own):
        (found,) = net.forward_maps(images(dtype))
        (found**2).mean().backward()
        grads = {name.removeprefix("net."): p.grad for name, p in net.named_parameters()}
        results.append((found.detach(), {k: g for k, g in grads.items() if g is not None}))
    (one, one_grads), (other, other_grads) = results
    scale = float(other.abs().max())
    torch.testing.assert_close(one, other, rtol=0, atol=close * scale)
    assert set(one_grads) == set(other_grads)
    for name, gradient in other_grads.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(one_grads[name], gradient, rtol=0, atol=close * scale)


def test_settings_by_layer_are_those_of_our_vit() -> None:
    dense = build_timm("vit_base_patch16_224", WINDOWS, img_size=64, **SMALL)
    own = VisionTransformer(ViTConfig(48, 4, 4), WINDOWS)
    ours = own.lr_factors(0.7)
    found = {k.removeprefix("net."): v for k, v in dense.lr_factors(0.7).items()}
    assert {k: v for k, v in found.items() if k in ours} == ours
    assert own.no_weight_decay() <= {k.removeprefix("net.") for k in dense.no_weight_decay()}


def test_recomputation_changes_nothing() -> None:
    for name in ("vit_base_patch16_224", "eva02_base_patch14_224", "beit_base_patch16_224"):
        net = shaken(build_timm(name, WINDOWS, img_size=56, embed_dim=48, depth=2, num_heads=4))
        grads = []
        for enabled in (False, True):
            net.zero_grad()
            net.set_activation_checkpointing(enabled)
            net.forward_maps(images())[0].square().mean().backward()
            grads.append([p.grad for p in net.parameters() if p.grad is not None])
        for one, other in zip(*grads, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "name",
    [
        "vit_small_patch16_dinov3",
        "vit_small_plus_patch16_dinov3",
        "vit_pe_core_tiny_patch16_384",
        "vit_pe_spatial_tiny_patch16_512",
        "eva02_tiny_patch14_224",
        "eva_large_patch14_196",
        "vit_small_patch14_reg4_dinov2",
        "vit_so150m_patch16_reg4_gap_256",
        "vit_small_patch16_rope_mixed_224",
        "vit_small_patch16_rope_ape_224",
        "deit3_small_patch16_224",
        "aimv2_large_patch14_224",
        "vit_base_patch16_clip_quickgelu_224",
    ],
)
def test_without_windows_it_is_timms_network_without_prefix_tokens(name: str) -> None:
    """Global attention on timm's own grid: timm's blocks on the same tokens, its own attention."""
    small = {"depth": 2}
    options = BuildOptions(img_size=64, window_size=99, global_blocks=(0, 1))
    dense = shaken(build_timm(name, options, **small)).eval().double()
    plain = timm.create_model(name, num_classes=0, dynamic_img_size=True, **small).eval().double()
    plain.load_state_dict({k.removeprefix("net."): v for k, v in dense.state_dict().items()})
    for block in plain.blocks:
        if hasattr(block.attn, "num_prefix_tokens"):
            block.attn.num_prefix_tokens = 0
    patch = dense.strides[0]
    side = plain.patch_embed.grid_size[0]
    batch = torch.randn(1, 3, side * patch, side * patch, dtype=torch.float64)
    tokens = plain.patch_embed(batch)
    grid = tokens.shape[1:3]
    tokens = tokens.flatten(1, 2)
    if plain.pos_embed is not None:
        tokens = tokens + plain.pos_embed[:, plain.pos_embed.shape[1] - side * side :]
    tokens = plain.norm_pre(tokens)
    rope = plain.rope.get_embed(shape=list(grid)) if getattr(plain, "rope", None) else None
    for index, block in enumerate(plain.blocks):
        if rope is None:
            tokens = block(tokens)
        else:
            tokens = block(tokens, rope=rope[index] if plain.rope_mixed else rope)
    (found,) = dense.forward_maps(batch)
    expected = tokens.transpose(1, 2).reshape(found.shape)
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7 * scale)


def close(found: Tensor, expected: Tensor) -> None:
    """Compare up to the rounding of timm's rotary tables, which it computes in float32."""
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * scale)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate pairs of channels, first half with second half (DINOv3), x (N, D), angles (N, D)."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[:, half:], x[:, :half]], dim=-1)
    return x * angles.cos() + turned * angles.sin()


def dinov3_angles(rows: int, columns: int, head_dim: int, base: float = 100.0) -> Tensor:
    """Siméoni et al. 2025, section 3.2: coordinates in [-1, 1], a quarter of D periods an axis."""
    quarter = head_dim // 4
    periods = base ** (2 * torch.arange(quarter, dtype=torch.float64) / (head_dim // 2))
    ys = 2 * (torch.arange(rows, dtype=torch.float64) + 0.5) / rows - 1
    xs = 2 * (torch.arange(columns, dtype=torch.float64) + 0.5) / columns - 1
    angles = torch.empty(rows, columns, 2, quarter, dtype=torch.float64)
    angles[..., 0, :] = 2 * math.pi * ys[:, None, None] / periods
    angles[..., 1, :] = 2 * math.pi * xs[None, :, None] / periods
    return angles.flatten(2).repeat(1, 1, 2).flatten(0, 1)


def test_rotary_windows_follow_the_formula() -> None:
    """DINOv3 with windows of 3 on 4 x 5 patches: one window, one head, one token at a time."""
    options = BuildOptions(window_size=3, global_blocks=(1,))
    net = build_timm(
        "vit_small_patch16_dinov3", options, embed_dim=16, depth=2, num_heads=2, mlp_ratio=1.0
    )
    shaken(net).eval().double()
    rows, columns, side, heads, width = 4, 5, 3, 2, 8
    x = torch.randn(rows, columns, 16, dtype=torch.float64)
    attention = net.net.blocks[0].attn
    assert attention.window == side
    bias = attention.qkv.bias
    padded = torch.zeros(6, 6, 16, dtype=torch.float64)
    padded[:rows, :columns] = x
    expected = torch.zeros(6, 6, 16, dtype=torch.float64)
    angles = dinov3_angles(side, side, width)
    for top in (0, 3):
        for left in (0, 3):
            window = padded[top : top + side, left : left + side].reshape(9, 16)
            qkv = F.linear(window, attention.qkv.weight, bias).view(9, 3, heads, width)
            out = []
            for head in range(heads):
                q, k, v = qkv[:, :, head].unbind(1)
                logits = rotate(q, angles) @ rotate(k, angles).T / math.sqrt(width)
                out.append(logits.softmax(-1) @ v)
            joined = attention.proj(torch.cat(out, dim=-1))
            expected[top : top + side, left : left + side] = joined.view(side, side, 16)
    rope = net.net.rope.get_embed(shape=[side, side])
    found = attention(x[None], rope=rope)[0]
    close(found, expected[:rows, :columns])


def test_perception_encoders_windows_follow_the_formula() -> None:
    """Interleaved pairs; a window of the pretraining grid has that grid's coordinates."""
    options = BuildOptions(window_size=4, global_blocks=(1,), tile_positions=True)
    net = build_timm(
        "vit_pe_spatial_tiny_patch16_512", options,
        embed_dim=16, depth=2, num_heads=2, img_size=64, ref_feat_shape=(4, 4),
    )  # fmt: skip
    shaken(net).eval().double()
    side, heads, width = 4, 2, 8
    attention = net.net.blocks[0].attn
    x = torch.randn(side, 2 * side, 16, dtype=torch.float64)
    # Axial angles of Su et al. 2021: theta_i = 10000^(-2i/d) over half of the channels each axis.
    rates = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    place = torch.arange(side, dtype=torch.float64) + net.net.rope.grid_offset
    xs, ys = place.repeat(side), place.repeat_interleave(side)
    first, second = (xs, ys) if net.net.rope.grid_indexing == "xy" else (ys, xs)
    angles = torch.cat([first[:, None] * rates, second[:, None] * rates], dim=-1)

    def turned(t: Tensor) -> Tensor:
        pairs = torch.view_as_complex(t.view(len(t), -1, 2).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(1)

    expected = torch.empty_like(x)
    for left in (0, side):
        window = x[:, left : left + side].reshape(-1, 16)
        qkv = attention.qkv(window).view(len(window), 3, heads, width)
        out = []
        for head in range(heads):
            q, k, v = qkv[:, :, head].unbind(1)
            out.append((turned(q) @ turned(k).T / math.sqrt(width)).softmax(-1) @ v)
        expected[:, left : left + side] = attention.proj(torch.cat(out, -1)).view(side, side, 16)
    found = attention(x[None], rope=net.net.rope.get_embed(shape=[side, side]))[0]
    close(found, expected)


def test_tiled_positions_repeat_the_table() -> None:
    options = BuildOptions(window_size=4, tile_positions=True)
    net = build_timm("vit_base_patch16_224", options, img_size=64, **SMALL)
    table = net.net.pos_embed[:, 1:].view(4, 4, 48)
    zero = torch.zeros(1, 3, 96, 112)
    found = net._embed(zero)[0] - net.net.patch_embed(zero)[0]
    for row in range(6):
        for column in range(7):
            torch.testing.assert_close(found[row, column], table[row % 4, column % 4])


def test_beits_windows_have_the_bias_of_their_offsets() -> None:
    options = BuildOptions(window_size=4, global_blocks=(1,))
    net = build_timm(
        "beit_base_patch16_224", options, img_size=64, embed_dim=16, depth=2, num_heads=2
    )
    assert isinstance(net, DenseBeitBackbone)
    shaken(net).eval().double()
    attention, side = net.net.blocks[0].attn, 4
    x = torch.randn(side, side, 16, dtype=torch.float64)
    table = net.bias_tables[0]
    bias = torch.empty(2, 16, 16, dtype=torch.float64)
    for query in range(16):
        for key in range(16):
            down, across = query // side - key // side, query % side - key % side
            bias[:, query, key] = table[(down + side - 1) * (2 * side - 1) + across + side - 1]
    joined = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    qkv = F.linear(x.view(16, 16), attention.qkv.weight, joined).view(16, 3, 2, 8)
    out = []
    for head in range(2):
        q, k, v = qkv[:, :, head].unbind(1)
        out.append((q @ k.T / math.sqrt(8) + bias[head]).softmax(-1) @ v)
    expected = attention.proj(torch.cat(out, -1)).view(side, side, 16)
    seen: list[Tensor] = []
    attention.register_forward_hook(lambda _, inputs, output: seen.append(output))
    net.net.blocks[0].norm1 = nn.Identity()
    net._on_map(net.net.blocks[0], x[None], table, (side, side))
    torch.testing.assert_close(seen[0][0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_one_file_makes_one_detector_backbone(tmp_path: Path) -> None:
    """MAE's file as the README names it, through our ViT and through timm's: the same maps."""
    path = tmp_path / "mae.pth"
    source = get_spec("vit-b16").build(BuildOptions())
    state = dict(shaken(source).state_dict())
    torch.save({"model": {**state, "mask_token": torch.zeros(1, 1, 512)}}, path)
    options = BuildOptions(img_size=512, window_size=14, relative_positions=True)
    found = []
    for arch in ("vit-b16", "timm:vit_base_patch16_224.mae"):
        spec = get_spec(arch)
        checkpoint = Checkpoint(arch, path, sha256_file(path), format="mae")
        net, coverage = build_backbone(spec, checkpoint, options, seed=0)
        assert set(coverage.fresh.values()) == {"declared so by the spec"}
        with torch.no_grad():
            found.append(net.eval().forward_maps(images())[0])
    scale = float(found[0].abs().max())
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-5 * scale)
