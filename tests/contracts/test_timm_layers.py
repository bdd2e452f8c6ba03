"""Every block of a timm network is a layer, and nothing else is one.

The smallest network of each of timm's model files that builds on the meta device, and variants
whose heads, necks and class attention were once taken for blocks.
"""

from collections import Counter
from functools import cache

import pytest
import timm
import torch
from timm.models import list_models, list_modules
from torch import nn

from backbones.base.errors import UserError
from backbones.spec import BuildOptions
from backbones.timm_networks.backbone import TimmBackbone
from backbones.timm_networks.families import build_timm
from benchmarks.tasks.attention.maps import geometries, watch_attention
from detection.config import at_depth
from detection.model.facts import drop_path_by_block
from detection.recipes import RECIPES

# Twelve blocks each, with everything that may stand around them.
TWELVE = (
    "vit_base_patch16_224",
    "vit_base_patch16_siglip_224",
    "vit_base_patch16_siglip_gap_224",
    "naflexvit_base_patch16_siglip",
    "vit_pe_core_base_patch16_224",
    "vit_base_patch16_clip_224",
    "vit_base_patch14_dinov2",
    "vit_base_patch14_reg4_dinov2",
    "vit_base_patch16_dinov3",
    "vit_base_patch16_rope_mixed_224",
    "eva02_base_patch14_224",
    "beitv2_base_patch16_224",
    "deit3_base_patch16_224",
    "deit_base_distilled_patch16_224",
    "samvit_base_patch16",
    "xcit_small_12_p16_224",
    "vit_relpos_base_patch16_224",
    "convit_base",
    "tnt_b_patch16_224",
    "hiera_tiny_224",
)
# One of each kind of grouping; the slow test runs over all files.
FAST = (
    "test_vit", "test_convnext", "xcit_nano_12_p8_224", "cait_xxs24_224", "coat_tiny",
    "hrnet_w18_small", "legacy_xception", "mvitv2_tiny", "volo_d1_224", "levit_128s",
    "vit_srelpos_small_patch16_224", "pit_ti_224",
)  # fmt: skip

# Blocks by hand, from the papers' tables or timm's model definitions.
BLOCKS = {
    "xcit_nano_12_p8_224": 12,
    "cait_xxs24_224": 24,
    "coat_tiny": 4 * 2 + 6,
    "mvitv2_tiny": 1 + 2 + 5 + 2,
    "pvt_v2_b0": 4 * 2,
    "gcvit_xxtiny": 2 + 2 + 6 + 2,
    "volo_d1_224": 4 + 4 + 8 + 2,
    "samvit_base_patch16_224": 12,
    "swin_tiny_patch4_window7_224": 2 + 2 + 6 + 2,
    "poolformerv2_s12": 12,
    "hiera_tiny_224": 12,
    "pit_ti_224": 2 + 6 + 4,
    "vit_srelpos_small_patch16_224": 12,
    "vit_large_patch16_siglip_256": 24,
    "vit_pe_core_large_patch14_336": 24,
}


@cache
def smallest_networks() -> tuple[str, ...]:
    found: list[str] = []
    for module in list_modules():
        sizes = {}
        for name in list_models(module=module):
            try:
                with torch.device("meta"):
                    net = timm.create_model(name, num_classes=0)
            except (TypeError, RuntimeError, NotImplementedError):
                continue
            sizes[name] = sum(p.numel() for p in net.parameters())
        found += sorted(sizes, key=lambda name: sizes[name])[:1]
    return tuple(found)


def on_meta(name: str) -> tuple[TimmBackbone, torch.Tensor]:
    config = timm.get_pretrained_cfg(name)
    side = config.input_size[-1] if config else 224
    with torch.device("meta"):
        return build_timm(name, BuildOptions(img_size=side)).eval(), torch.empty(2, 3, side, side)


def run_order(backbone: TimmBackbone, images: torch.Tensor) -> tuple[list[str], set[str]]:
    """Return the parameters of the maps as they run, and those that only pooling runs."""
    seen: list[str] = []
    for prefix, module in backbone.named_modules():
        own = [f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)]
        module.register_forward_pre_hook(lambda _, __, own=own: seen.extend(own))
    with torch.device("meta"):
        try:
            backbone.forward_maps(images)
        except (UserError, RuntimeError):  # no maps, or numbers that this device lacks
            seen.clear()
        maps = list(dict.fromkeys(seen))
        seen.clear()
        final = backbone.net.forward_features(images)
        backbone.net.forward_head(final, pre_logits=True)
    return (maps, set(seen) - set(maps)) if maps else (list(dict.fromkeys(seen)), set())


def check_layers(name: str) -> None:
    backbone, images = on_meta(name)
    ids = {key: backbone.layer_id(key) for key, _ in backbone.named_parameters()}
    top = backbone.num_layers + 1
    assert set(range(1, top)) <= set(ids.values()) <= set(range(top + 1))
    maps, pooling = run_order(backbone, images)
    executed = [ids[key] for key in maps if not key.endswith("encoder.pos_embed")]
    assert executed == sorted(executed)
    assert {ids[key] for key in pooling if "pos_embed" not in key} <= {top}
    blocks = getattr(backbone.net, "blocks", None)
    if len(backbone.strides) == 1 and isinstance(blocks, nn.Sequential | nn.ModuleList):
        assert backbone.num_layers == len(blocks)
    assert backbone.num_layers == BLOCKS.get(name, backbone.num_layers)


@pytest.mark.parametrize("name", FAST)
def test_layers_are_blocks(name: str) -> None:
    check_layers(name)


def rates_of(name: str) -> list[float]:
    with torch.device("meta"):
        return drop_path_by_block(build_timm(name, BuildOptions(drop_path=0.2)))


def check_rates(name: str) -> None:
    """Stochastic depth rises from 0 to the rate, in the blocks that have any."""
    rates = [rate for rate in rates_of(name)[1:] if rate]
    assert rates == sorted(rates)
    # timm's rates are rounded to float32.
    assert len(rates) < 2 or rates[0] < rates[-1] <= 0.2 + 1e-6
    assert not rates or rates_of(name)[0] < 0.2 / 2


@pytest.mark.parametrize(
    "name", ["coat_tiny", "levit_128s", "sequencer2d_s", "xcit_nano_12_p8_224"]
)
def test_stochastic_depth_rises_block_by_block(name: str) -> None:
    check_rates(name)
    rates = rates_of(name)
    assert rates == pytest.approx([0.2 * i / (len(rates) - 1) for i in range(len(rates))])


@pytest.mark.slow
def test_stochastic_depth_rises_in_every_file_of_timm() -> None:
    for name in smallest_networks():
        check_rates(name)


@pytest.mark.slow
def test_layers_are_blocks_in_every_file_of_timm() -> None:
    names = smallest_networks()
    assert len(names) >= len(list_modules()) - 2
    for name in {*names, *BLOCKS}:
        check_layers(name)


@pytest.mark.parametrize("name", TWELVE)
def test_twelve_blocks_get_the_settings_of_vit_b(name: str) -> None:
    model, optim = RECIPES["vitdet-25ep"]().model, RECIPES["vitdet-25ep"]().optim
    check_layers(name)
    with torch.device("meta"):
        backbone = build_timm(name, BuildOptions(drop_path=0.1))
    assert backbone.num_layers == 12
    assert at_depth(model.drop_path, backbone.num_layers) == 0.1
    factors = backbone.lr_factors(at_depth(optim.layer_decay, backbone.num_layers))
    first = [key for key, _ in backbone.named_parameters() if backbone.layer_id(key) == 1]
    assert {round(factors[key], 4) for key in first} == {0.0138}
    assert max(factors.values()) in (1.0, 0.7)
    rates = [
        round(module.drop_prob, 4)
        for module in backbone.modules()
        if type(module).__name__ == "DropPath"
    ]
    assert rates == sorted(rates)
    assert max(rates) == 0.1
    assert len(Counter(rates)) in (11, 12)


def test_norms_of_the_stem_stay_in_the_stem() -> None:
    backbone, _ = on_meta("hrnet_w18_small")
    assert backbone.layer_id("net.bn2.weight") == 0


def test_tasks_on_pooled_features_need_no_maps() -> None:
    for name in ("levit_128s", "inception_v3", "crossvit_tiny_240", "pit_ti_224"):
        backbone, images = on_meta(name)
        with torch.device("meta"):
            features = backbone(images)
        assert features.maps == ()
        assert features.pooled.ndim == 2
        with pytest.raises(UserError):
            backbone.forward_maps(images)


@pytest.mark.parametrize("name", ["xcit_nano_12_p16_224", "cait_xxs24_224", "convit_tiny"])
def test_networks_without_tokens_in_their_blocks_return_none(name: str) -> None:
    backbone, images = on_meta(name)
    with torch.device("meta"):
        features = backbone(images, num_last_blocks=4)
    assert features.patch_tokens == ()
    assert len(features.maps) == 1


def test_attention_pooling_is_no_block() -> None:
    seen = []
    backbone = build_timm(
        "vit_base_patch16_siglip_224", BuildOptions(), embed_dim=48, depth=2, num_heads=4
    )
    watch_attention(backbone.eval(), torch.randn(1, 3, 224, 224), lambda i, _: seen.append(i))
    assert seen == [0, 1]
    xcit = build_timm("xcit_nano_12_p16_224", BuildOptions()).eval()
    with pytest.raises(UserError, match="Nothing is known of attention in Xcit"):
        geometries(xcit, 224)
