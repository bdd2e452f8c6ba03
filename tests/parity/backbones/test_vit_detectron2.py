"""Our ViT against detectron2's ViTDet backbone, same weights: features and gradients."""

from functools import partial

import pytest
import torch
from detectron2.modeling.backbone.vit import ViT

from backbones.spec import BuildOptions
from backbones.vit.network import VisionTransformer, ViTConfig
from backbones.vit.relative_attention import attend_folded, attend_relative, offset_table


def pair(dtype, **options):
    """Return detectron2's ViT and ours: pretrained at 128, relative tables for 160, patch 16."""
    torch.manual_seed(0)
    shape = {"img_size": 160, "embed_dim": 48, "depth": 4, "num_heads": 4}
    theirs = ViT(
        **shape,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        pretrain_img_size=128,
        window_size=options.get("window_size", 0),
        window_block_indexes=(0, 2),
        use_rel_pos=options.get("relative_positions", False),
        rel_pos_zero_init=False,
    )
    ours = VisionTransformer(
        ViTConfig(48, 4, 4), BuildOptions(img_size=160, global_blocks=(1, 3), **options)
    )
    for name, parameter in theirs.named_parameters():
        torch.nn.init.normal_(parameter, std=0.3 if "rel_pos" in name else 0.1)
    missing = set(ours.state_dict()) - set(theirs.state_dict())
    assert missing == {"cls_token", "norm.weight", "norm.bias"}
    ours.load_state_dict({k: ours.state_dict()[k] for k in missing} | theirs.state_dict())
    return ours.to(dtype), theirs.to(dtype)


@pytest.mark.parametrize("size", [(160, 160), (128, 128), (176, 272), (48, 208)], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"window_size": 4, "relative_positions": True},
        {"window_size": 4},
        {"relative_positions": True},
    ],
    ids=["windows, relative", "windows", "relative"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_maps_and_gradients(options, size, dtype):
    ours, theirs = pair(dtype, **options)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1)).to(dtype)
    our_map, their_map = ours.forward_maps(images)[0], theirs(images)["last_feat"]
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    close = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(our_map, their_map, **close)

    weight = torch.randn_like(their_map)
    torch.autograd.backward([(our_map * weight).mean(), (their_map * weight).mean()])
    our_grads = {name: p.grad for name, p in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(our_grads[name], parameter.grad, **close, msg=name)


@pytest.mark.parametrize("grid", [(3, 5), (40, 36)], ids=str)
def test_every_formulation_equals_the_textbook(grid):
    """The larger grid needs several chunks a head; the folded form is what a GPU runs."""
    torch.manual_seed(0)
    rows, columns = grid
    inputs = [torch.randn(3, 2, 2, rows * columns, 8), torch.randn(9, 8), torch.randn(9, 8)]
    inputs = [x.double().requires_grad_() for x in inputs]
    heads, rel_pos_h, rel_pos_w = inputs

    def textbook(heads, rel_pos_h, rel_pos_w):
        q, k, v = heads
        table_h = offset_table(rel_pos_h, rows).repeat_interleave(columns, 0)
        table_h = table_h.repeat_interleave(columns, 1)
        table_w = offset_table(rel_pos_w, columns).repeat(rows, rows, 1)
        relative = torch.einsum("bnqc,qkc->bnqk", q, table_h + table_w)
        return (q @ k.mT / 8**0.5 + relative).softmax(-1) @ v

    def folded(heads, rel_pos_h, rel_pos_w):
        return attend_folded(heads, offset_table(rel_pos_h, rows), offset_table(rel_pos_w, columns))

    expected = textbook(*inputs)
    weight = torch.randn_like(expected)
    expected_grads = torch.autograd.grad((expected * weight).sum(), inputs)
    for formulation in (partial(attend_relative, grid=grid), folded):
        out = formulation(heads, rel_pos_h, rel_pos_w)
        torch.testing.assert_close(out, expected)
        grads = torch.autograd.grad((out * weight).sum(), inputs)
        torch.testing.assert_close(grads, expected_grads)
