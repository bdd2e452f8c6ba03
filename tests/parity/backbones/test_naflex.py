"""Windowed NaFlex ViTs against windowed plain ViTs of timm with the same weights."""

import pytest
import torch

from backbones.spec import BuildOptions
from backbones.timm_networks.families import build_timm
from backbones.timm_networks.naflex import DenseNaFlexBackbone

SHAPE = {"depth": 4, "embed_dim": 32, "num_heads": 2}
OPTIONS = BuildOptions(img_size=128, window_size=4, global_blocks=(3,), relative_positions=True)


def pair():
    torch.manual_seed(0)
    naflex = build_timm("naflexvit_base_patch16_siglip", OPTIONS, **SHAPE).double()
    same = {**SHAPE, "act_layer": "gelu_tanh"}
    plain = build_timm("vit_base_patch16_siglip_gap_256", OPTIONS, **same).double()
    for parameter in naflex.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    state = {}
    for name, tensor in naflex.net.state_dict().items():
        if name == "embeds.proj.weight":
            state["patch_embed.proj.weight"] = tensor.view(-1, 16, 16, 3).permute(0, 3, 1, 2)
        elif name == "embeds.pos_embed":
            state["pos_embed"] = tensor.flatten(1, 2)
        else:
            state[name.replace("embeds.", "patch_embed.")] = tensor
    wanted = plain.net.state_dict()
    plain.net.load_state_dict({name: state[name] for name in wanted})
    return naflex, plain


@pytest.mark.parametrize("size", [(128, 96), (256, 256), (100, 77)])
def test_maps_and_gradients_are_those_of_a_plain_vit(size):
    naflex, plain = pair()
    assert isinstance(naflex, DenseNaFlexBackbone)
    assert naflex.block_attention() == plain.block_attention()
    assert naflex.absolute_positions() == plain.absolute_positions()
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    results = []
    for backbone in (naflex, plain):
        given = images.clone().requires_grad_()
        (found,) = backbone.forward_maps(given)
        (found * found).sum().backward()
        results.append((found.detach(), given.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_at_its_own_size_it_is_timms_network():
    own = BuildOptions(img_size=256)
    torch.manual_seed(0)
    theirs = build_timm("naflexvit_base_patch16_siglip", own, **SHAPE).eval()
    asked = BuildOptions(img_size=256, relative_positions=True)
    ours = build_timm("naflexvit_base_patch16_siglip", asked, **SHAPE).eval()
    ours.load_state_dict(theirs.state_dict(), strict=False)
    images = torch.randn(1, 3, 256, 256)
    torch.testing.assert_close(
        ours.forward_maps(images)[0], theirs.forward_maps(images)[0], rtol=1e-5, atol=1e-5
    )
