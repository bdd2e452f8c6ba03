"""The plain ViT by itself: shapes, options, layers, and the room that pretraining needs."""

from dataclasses import replace

import pytest
import torch

from backbones.base.errors import UserError
from backbones.spec import BuildOptions
from backbones.vit.block import pick
from backbones.vit.irpe import bucket_index
from backbones.vit.network import VisionTransformer, ViTConfig

TINY = ViTConfig(embed_dim=32, num_layers=4, num_heads=4, patch_size=8)
WINDOWS = BuildOptions(img_size=48, window_size=4, relative_positions=True)
PLAIN = BuildOptions(img_size=48)


def build(config=TINY, options=PLAIN):
    torch.manual_seed(0)
    net = VisionTransformer(config, options).eval()
    for parameter in net.parameters():  # tables that start at zero would hide mistakes
        torch.nn.init.normal_(parameter, std=0.1)
    return net


def images(height=40, width=72):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


CONFIGS = {
    "cls": TINY,
    "no prefix": replace(TINY, cls_token=False, pooling="mean"),
    "registers": replace(TINY, num_registers=3),
    "registers placed": replace(TINY, num_registers=3, prefix_positions="all"),
    "registers alone": replace(TINY, cls_token=False, num_registers=2, pooling="mean"),
    "sincos": replace(TINY, positions="sincos", pooling="mean"),
    "irpe": replace(TINY, positions="none", irpe=True),
    "irpe, no prefix": replace(TINY, positions="none", irpe=True, cls_token=False, pooling="mean"),
    "layer scale": replace(TINY, layer_scale=0.1, qkv_bias=False),
    "patch 14": replace(TINY, patch_size=14),
}
OPTIONS = {
    "global": PLAIN,
    "windows": WINDOWS,
    "windows alone": replace(WINDOWS, relative_positions=False),
    "relative alone": replace(WINDOWS, window_size=0),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_part_has_a_gradient_and_every_shape_is_as_declared(config, options):
    net = build(config, options)
    features = net(images(41, 71), num_last_blocks=2)
    rows, columns = -(-41 // config.patch_size), -(-71 // config.patch_size)
    assert features.maps[0].shape == (2, 32, rows, columns)
    assert features.pooled.shape == (2, 32)
    assert [t.shape for t in features.patch_tokens] == [(2, rows * columns, 32)] * 2
    assert [t.shape for t in features.prefix_tokens] == [(2, net.num_prefix, 32)] * 2
    torch.testing.assert_close(net.forward_maps(images(41, 71))[0], features.maps[0])
    (features.pooled.square().sum() + features.maps[0].square().sum()).backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]


def test_padding_to_whole_patches_is_zeros_right_and_bottom():
    net = build()
    padded = torch.nn.functional.pad(images(41, 71), (0, 1, 0, 7))
    torch.testing.assert_close(net.forward_maps(images(41, 71))[0], net.forward_maps(padded)[0])


def test_maps_lack_the_final_norm_and_tokens_have_it():
    net = build()
    features = net(images(), num_last_blocks=1)
    last = features.maps[0].flatten(2).transpose(1, 2)
    torch.testing.assert_close(net.norm(last), features.patch_tokens[0])
    assert not torch.allclose(last, features.patch_tokens[0])
    torch.testing.assert_close(features.pooled, features.prefix_tokens[0][:, 0])


def test_mean_pooling_leaves_prefix_tokens_out():
    net = build(replace(TINY, num_registers=2, pooling="mean"))
    features = net(images(), num_last_blocks=1)
    torch.testing.assert_close(features.pooled, features.patch_tokens[0].mean(1))


def test_windows_keep_prefix_tokens_as_buffers_so_that_weights_load_strictly():
    config = replace(TINY, num_registers=2)
    plain, windowed = build(config), build(config, replace(WINDOWS, relative_positions=False))
    windowed.load_state_dict(plain.state_dict())
    names = dict(windowed.named_parameters())
    assert "cls_token" not in names
    assert "reg_token" not in names
    assert torch.equal(windowed.cls_token, plain.cls_token)


def test_default_global_blocks_end_each_quarter():
    net = build(replace(TINY, num_layers=12), WINDOWS)
    global_blocks = [i for i, block in enumerate(net.blocks) if not block.attn.window_size]
    assert global_blocks == [2, 5, 8, 11]


def test_global_blocks_can_be_chosen_and_are_checked():
    net = build(options=replace(WINDOWS, global_blocks=(0, 2)))
    assert [block.attn.window_size for block in net.blocks] == [0, 4, 0, 4]
    assert net.blocks[0].attn.rel_pos_h.shape == (2 * 6 - 1, 8)
    assert net.blocks[1].attn.rel_pos_w.shape == (2 * 4 - 1, 8)
    with pytest.raises(UserError, match=r"blocks are 0 to 3"):
        build(options=replace(WINDOWS, global_blocks=(4,)))


def test_irpe_takes_the_place_of_decomposed_positions():
    net = build(replace(TINY, irpe=True, positions="none"), WINDOWS)
    assert not [name for name, _ in net.named_parameters() if "rel_pos" in name]
    assert net.blocks[0].attn.rpe_k.lookup_table_weight.shape == (1, 8, 50)


def test_fresh_relative_tables_are_zero_and_drop_path_rises_linearly():
    net = VisionTransformer(replace(TINY, irpe=True), replace(PLAIN, drop_path=0.3))
    assert not net.blocks[0].attn.rpe_k.lookup_table_weight.any()
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in net.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])
    assert not VisionTransformer(TINY, WINDOWS).blocks[0].attn.rel_pos_h.any()


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_loading_takes_over_the_size_of_the_position_table(positions):
    config = replace(TINY, positions=positions)
    made_for_64, made_for_48 = build(config, BuildOptions(img_size=64)), build(config)
    made_for_48.load_state_dict(made_for_64.state_dict())
    assert made_for_48.pos_embed.shape == (1, 1 + 64, 32)
    torch.testing.assert_close(made_for_48(images()).pooled, made_for_64(images()).pooled)
    assert ("pos_embed" in dict(made_for_48.named_parameters())) == (positions == "learned")


def test_a_position_table_of_another_width_is_refused():
    wider = build(replace(TINY, embed_dim=64)).state_dict()
    with pytest.raises(RuntimeError, match="pos_embed"):
        build().load_state_dict(wider)


def test_layer_ids_and_decay():
    net = build(replace(TINY, num_registers=1), PLAIN)
    expected = {"pos_embed": 0, "cls_token": 0, "reg_token": 0, "patch_embed.proj.weight": 0}
    expected |= {"blocks.0.attn.qkv.bias": 1, "blocks.3.mlp.fc2.weight": 4, "norm.weight": 5}
    assert {name: net.layer_id(name) for name in expected} == expected
    assert net.no_weight_decay() == {"pos_embed", "cls_token", "reg_token"}
    for unknown in ("module.pos_embed", "blocks.4.norm1.weight"):
        with pytest.raises(KeyError):
            net.layer_id(unknown)


@pytest.mark.parametrize("options", [PLAIN, WINDOWS], ids=["global", "windows"])
def test_recomputed_activations_change_nothing(options):
    net = build(options=options).train()
    results = []
    for enabled in (False, True):
        net.set_activation_checkpointing(enabled)
        net.zero_grad()
        loss = net.forward_maps(images())[0].square().sum()
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in net.parameters() if p.grad is not None)])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_encoding_all_patches_in_any_order_gives_the_same_tokens():
    """MAE passes visible patches without a grid: only their positions may tell them apart."""
    net = build()
    patches, grid = net.embed(images())
    order = torch.randperm(patches.shape[1], generator=torch.Generator().manual_seed(2))
    shuffled = net.encode(net.prepend_prefix(patches[:, order]))
    straight = net.encode(net.prepend_prefix(patches), grid)
    torch.testing.assert_close(shuffled[:, 0], straight[:, 0])
    torch.testing.assert_close(shuffled[:, 1:], straight[:, 1:][:, order])


@pytest.mark.parametrize("config", [TINY, CONFIGS["layer scale"]], ids=["biased", "layer scale"])
def test_some_tokens_of_a_block_are_those_of_all_of_them(config):
    block = build(config).double().blocks[0]
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(2, 7, 32, generator=generator, dtype=torch.float64, requires_grad=True)
    wanted = torch.tensor([6, 0, 2, 7, 12, 9])
    results = []
    for rows in (pick(block(tokens, None), wanted), block.forward_some(tokens, wanted)):
        loss = rows.square().sum()
        results.append([rows, *torch.autograd.grad(loss, [tokens, *block.parameters()])])
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("change", [{"options": WINDOWS}, {"config": CONFIGS["irpe"]}])
def test_some_tokens_of_a_block_need_attention_that_knows_no_places(change):
    block = build(**change).blocks[0]
    with pytest.raises(ValueError, match="have no place"):
        block.forward_some(torch.randn(1, 36, 32), torch.arange(3))


def test_irpe_knows_offsets_alone_and_needs_the_grid():
    """LoMaR passes windows cut from a larger grid: where they were cut must not matter."""
    large = bucket_index((6, 9), 0, torch.device("cpu")).view(6, 9, 6, 9)
    window = large[2:4, 5:8, 2:4, 5:8].reshape(6, 6)
    assert torch.equal(window, bucket_index((2, 3), 1, torch.device("cpu"))[1:, 1:])

    net = build(replace(TINY, positions="none", irpe=True))
    tokens = net.prepend_prefix(torch.randn(1, 6, 32))
    assert not torch.allclose(net.encode(tokens, (2, 3)), net.encode(tokens, (3, 2)))
    with pytest.raises(ValueError, match="grid"):
        net.encode(tokens)


def test_inference_equals_training_mode_arithmetic():
    """Without gradients no probabilities are kept; the numbers must not notice."""
    net = build(options=WINDOWS)
    with torch.no_grad():
        alone = net.forward_maps(images())[0]
    torch.testing.assert_close(alone, net.forward_maps(images())[0].detach(), rtol=0, atol=0)


def test_bfloat16_stays_near_float32():
    net = build(options=WINDOWS)
    exact = net.forward_maps(images())[0]
    with torch.autocast("cpu", torch.bfloat16):
        rough = net.forward_maps(images())[0]
    rough.float().square().sum().backward()
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"num_heads": 5}, "heads do not divide"), ({"cls_token": False}, "pooling 'cls'")],
)
def test_impossible_shapes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)
