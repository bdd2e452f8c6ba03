"""timm's relpos ViTs under ViTDet's rules, against plain formulas and against timm itself."""

import math

import pytest
import timm
import torch
from timm.layers import RelPosBias
from timm.models.vision_transformer_relpos import ResPostRelPosBlock
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.spec import BuildOptions
from backbones.timm_networks.families import build_timm
from backbones.timm_networks.relpos import DenseRelPosBackbone, can_be_dense_relpos
from detection.model.facts import detector_facts, prove
from tests.detection.model.test_protocols import built, planned, windows

KINDS = {
    "a bias for each block": "vit_relpos_base_patch16_224",
    "one bias for all blocks": "vit_srelpos_small_patch16_224",
    "norms behind the branches": "vit_relpos_base_patch16_rpn_224",
    "a cls token": "vit_relpos_base_patch16_clsgap_224",
}
SIDE, HEADS, WIDTH = 4, 2, 8
# 5 x 6 patches: windows of 4 are padded on both sides.
SIZE = (80, 96)


def small(name: str, options: BuildOptions) -> DenseRelPosBackbone:
    net = build_timm(
        name, options, img_size=64, embed_dim=HEADS * WIDTH, depth=2, num_heads=HEADS, rel_pos_dim=8
    )
    assert isinstance(net, DenseRelPosBackbone)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            scales = ".norm" in name and name.endswith("weight")
            parameter.copy_(1 + drawn * 0.1 if scales else drawn * 0.2)
    # The bias MLP drops an eighth of its hidden units in training.
    return net.eval()


def bias_of(relative: nn.Module, down: int, across: int) -> Tensor:
    """The bias of one offset, (heads,): an MLP of sign(d) ln(1 + |d|) of rows and columns."""
    scaled = [math.copysign(math.log(1 + abs(d)), d) for d in (down, across)]
    weight = relative.mlp.fc1.weight
    hidden = weight @ weight.new_tensor(scaled) + relative.mlp.fc1.bias
    return relative.mlp.fc2.weight @ hidden.relu() + relative.mlp.fc2.bias


def attention_of(attention: nn.Module, relative: nn.Module, tokens: Tensor) -> Tensor:
    """Attention among all tokens of one (rows, columns, C) map, pair by pair."""
    rows, columns, channels = tokens.shape
    places = [(row, column) for row in range(rows) for column in range(columns)]
    kinds = {(a[0] - b[0], a[1] - b[1]) for a in places for b in places}
    table = {kind: bias_of(relative, *kind) for kind in kinds}
    bias = torch.stack(
        [torch.stack([table[a[0] - b[0], a[1] - b[1]] for b in places]) for a in places]
    )
    flat = tokens.reshape(-1, channels)
    q, k, v = F.linear(flat, attention.qkv.weight, attention.qkv.bias).chunk(3, dim=-1)
    out = []
    for head in range(HEADS):
        part = slice(head * WIDTH, (head + 1) * WIDTH)
        logits = q[:, part] @ k[:, part].T / math.sqrt(WIDTH) + bias[:, :, head]
        out.append(logits.softmax(-1) @ v[:, part])
    return attention.proj(torch.cat(out, dim=-1)).view(tokens.shape)


def in_windows(attention: nn.Module, relative: nn.Module, tokens: Tensor) -> Tensor:
    """The same inside windows of SIDE; a window at the border is filled with zero tokens."""
    rows, columns, _ = tokens.shape
    padded = F.pad(tokens, (0, 0, 0, -columns % SIDE, 0, -rows % SIDE))
    lines = []
    for top in range(0, len(padded), SIDE):
        line = [
            attention_of(attention, relative, padded[top : top + SIDE, left : left + SIDE])
            for left in range(0, padded.shape[1], SIDE)
        ]
        lines.append(torch.cat(line, dim=1))
    return torch.cat(lines)[:rows, :columns]


def reference(net: nn.Module, image: Tensor) -> Tensor:
    """The whole network on one image, (3, H, W): windows in the first block, global in the next."""
    patch = net.patch_embed.proj
    tokens = F.conv2d(image[None], patch.weight, patch.bias, stride=16)[0].permute(1, 2, 0)
    for block, attend in zip(net.blocks, (in_windows, attention_of), strict=True):
        relative = net.shared_rel_pos or block.attn.rel_pos
        if isinstance(block, ResPostRelPosBlock):
            tokens = tokens + block.norm1(attend(block.attn, relative, tokens))
            tokens = tokens + block.norm2(block.mlp(tokens))
        else:
            tokens = tokens + block.ls1(attend(block.attn, relative, block.norm1(tokens)))
            tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
    return tokens.permute(2, 0, 1)


@pytest.mark.parametrize("name", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_maps_and_gradients_follow_the_formula(name: str, dtype: torch.dtype, close: float) -> None:
    options = BuildOptions(window_size=SIDE, global_blocks=(1,), relative_positions=True)
    net = small(name, options).to(dtype)
    image = torch.randn(3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    results = []
    for run in (
        lambda x: net.forward_maps(x[None])[0][0],
        lambda x: reference(net.net, x),
    ):
        net.zero_grad(set_to_none=True)
        found = run(image.to(dtype))
        (found**2).mean().backward()
        grads = {key: p.grad for key, p in net.named_parameters() if p.grad is not None}
        results.append((found.detach(), grads))
    (one, one_grads), (other, other_grads) = results
    torch.testing.assert_close(one, other, rtol=0, atol=close * float(other.abs().max()))
    assert set(one_grads) == set(other_grads)
    assert any("rel_pos" in key for key in one_grads)
    # The cls token takes no part, and the maps come without the final norm.
    unused = {key for key, _ in net.named_parameters()} - set(one_grads)
    assert unused <= {"net.cls_token", "net.norm.weight", "net.norm.bias",
                      "net.fc_norm.weight", "net.fc_norm.bias"}  # fmt: skip
    largest = max(float(gradient.abs().max()) for gradient in other_grads.values())
    for key, gradient in other_grads.items():
        # Biases that softmax cancels (of keys, of the MLP's last layer) have only rounding.
        scale = max(float(gradient.abs().max()), 1e-2 * largest)
        torch.testing.assert_close(one_grads[key], gradient, rtol=0, atol=close * scale)


@pytest.mark.parametrize(
    "name",
    ["vit_relpos_small_patch16_224", "vit_srelpos_small_patch16_224", "test_vit_relpos",
     "vit_relpos_small_patch16_rpn_224", "vit_relpos_base_patch16_plus_240"],
)  # fmt: skip
def test_without_windows_it_is_timms_own_network(name: str) -> None:
    depth = 2
    options = BuildOptions(window_size=99, global_blocks=tuple(range(depth)))
    dense = build_timm(name, options, depth=depth).eval()
    plain = timm.create_model(name, num_classes=0, depth=depth).eval()
    plain.load_state_dict({k.removeprefix("net."): v for k, v in dense.state_dict().items()})
    side = plain.patch_embed.img_size[0]
    batch = torch.randn(1, 3, side, side)
    with torch.no_grad():
        (found,) = dense.forward_maps(batch)
        expected = plain.forward_intermediates(batch, indices=1, intermediates_only=True)[0]
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", KINDS.values(), ids=KINDS)
def test_recomputation_changes_nothing_in_training(name: str) -> None:
    net = small(name, BuildOptions(window_size=SIDE, global_blocks=(1,))).train()
    grads = []
    for enabled in (False, True):
        torch.manual_seed(0)
        net.zero_grad()
        net.set_activation_checkpointing(enabled)
        net.forward_maps(torch.ones(1, 3, *SIZE))[0].square().mean().backward()
        grads.append([p.grad for p in net.parameters() if p.grad is not None])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_the_detector_states_its_windows_and_its_bias() -> None:
    spec, config = planned("timm:test_vit_relpos", "mini")
    assert spec.fixed_size
    assert config.protocol == "mini/v1"
    asked = windows(config)
    detector, factors = built("timm:test_vit_relpos", asked)
    facts = detector_facts(detector, asked, factors)
    assert facts["attention"].startswith("windows of 4 in ")
    assert facts["relative positions"] == "bias MLP"
    assert facts["absolute positions"] == "none"
    prove(facts, asked, detector.net, factors)


@pytest.mark.parametrize("name", ["vit_relpos_base_patch16_224", "vit_srelpos_small_patch16_224"])
def test_facts_of_frozen_networks_name_the_bias(name: str) -> None:
    with torch.device("meta"):
        attention = build_timm(name, BuildOptions()).block_attention()
    assert {block.relative for block in attention} == {"bias MLP"}


def test_other_kinds_of_bias_stay_global() -> None:
    for changed in ({"rel_pos_type": "mlp-swin"}, {"rel_pos_type": "bias"}):
        with torch.device("meta"):
            net = timm.create_model("test_vit_relpos", **changed)
        assert not can_be_dense_relpos(net)
    assert isinstance(net.blocks[0].attn.rel_pos, RelPosBias)
