"""Every backbone is measured by the facts of its protocol, under another id, or not at all."""

import re
from dataclasses import replace

import pytest
import torch

from backbones.base.errors import UserError
from backbones.base.sections import as_plain
from backbones.catalog import get_spec
from backbones.spec import BackboneSpec, BuildOptions
from detection.config import DetectionConfig
from detection.model.detector import Detector, build_detector
from detection.model.facts import detector_facts, drop_path_by_block, prove
from detection.protocols import build_options, fit, measured_as, patches_in_words
from detection.recipes import RECIPES, default_recipe


def planned(name: str, recipe: str) -> tuple[BackboneSpec, DetectionConfig]:
    spec = get_spec(name)
    return spec, fit(RECIPES[recipe]().resolved(), spec)


@pytest.mark.parametrize(
    ("name", "recipe", "protocol"),
    [
        ("vit-b16", "vitdet-25ep", "vitdet/v1+25ep"),
        ("beit-b16", "vitdet-25ep", "vitdet/v1+25ep"),
        ("timm:vit_base_patch16_224.mae", "vitdet-25ep", "vitdet/v1+25ep"),
        ("timm:vit_base_patch16_siglip_224", "vitdet-25ep", "vitdet/v1+25ep"),
        ("timm:vit_small_patch16_dinov3", "vitdet-25ep", "vitdet/v1+25ep"),
        ("timm:samvit_base_patch16", "vitdet-25ep", "vitdet/v1+25ep"),
        ("timm:samvit_base_patch16", "mini", "mini-own-windows/v1"),
        ("timm:naflexvit_base_patch16_siglip", "vitdet-25ep", "vitdet/v1+25ep"),
        ("timm:vitamin_small_224", "vitdet-25ep", "vitdet/v1+25ep"),
        ("timm:test_vit_relpos", "vitdet-25ep", "vitdet/v1+25ep"),
        ("timm:xcit_nano_12_p16_224", "vitdet-25ep", "vitdet-global/v1+25ep"),
        ("timm:cait_xxs24_224", "vitdet-25ep", "vitdet-global/v1+25ep"),
        ("timm:cait_xxs24_224", "vitdet-frozen-12ep", "vitdet-frozen/v1+12ep+last"),
        ("timm:hiera_tiny_224", "swin-1x", "swin-mmdet/v1+1x+square1344"),
        ("timm:hiera_tiny_224", "vitdet-swin-50ep", "vitdet-swin/v1+50ep"),
        ("timm:convnext_tiny", "swin-1x", "swin-mmdet/v1+1x"),
    ],
)
def test_the_plan_names_the_protocol(name: str, recipe: str, protocol: str) -> None:
    spec, config = planned(name, recipe)
    assert config.protocol == protocol
    assert fit(config, spec).protocol == protocol or "+square" in protocol


@pytest.mark.parametrize(
    ("name", "recipe", "sentence"),
    [
        ("timm:volo_d1_224", "swin-1x", "needs stride 4"),
        ("timm:crossvit_tiny_240", "swin-1x", "needs stride 4"),
        ("timm:levit_128s", "swin-1x", "needs stride 4"),
        ("swin-nano", "vitdet-frozen-12ep", "tokens of a plain network"),
        ("vit-b16", "pe-g-75ep", "has 12 blocks"),
    ],
)
def test_the_plan_refuses_in_one_sentence(name: str, recipe: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        planned(name, recipe)


@pytest.mark.parametrize(
    "name",
    [
        "convit_tiny", "mixer_s32_224", "pit_ti_224", "nest_tiny", "gcvit_xxtiny", "inception_v3",
        "edgenext_xx_small", "legacy_xception", "test_vit_relpos", "test_mambaout",
    ],
)  # fmt: skip
def test_odd_networks_are_planned_by_name_or_refused_in_one_sentence(name: str) -> None:
    spec = get_spec(f"timm:{name}")
    recipe = RECIPES[default_recipe(spec, mini=False)]().resolved()
    found, refusal = "", ""
    try:
        found = fit(recipe, spec).protocol
    except UserError as error:
        refusal = str(error)
    assert found or re.fullmatch(r"timm:[^\n]+ needs [^\n]+\.", refusal)
    # Windows belong to networks that have them, and squares to those of one size.
    assert "vitdet/" not in found or spec.windows
    assert "+square" not in found or spec.fixed_size


@pytest.mark.parametrize(
    ("name", "recipe", "reason"),
    [
        ("vit-b16", "vitdet-25ep", ""),
        ("timm:vit_base_patch16_224.mae", "vitdet-25ep", ""),
        ("timm:hiera_tiny_224", "mini", ""),
        (
            "timm:hiera_tiny_224",
            "swin-1x",
            "padded to squares of 1344 pixels, and published",
        ),
        ("timm:xcit_nano_12_p16_224", "vitdet-25ep", "every block attends as it is built."),
        ("timm:samvit_base_patch16", "mini", "keeps the attention windows of its own design."),
    ],
)
def test_the_plan_says_why_a_protocol_is_another(name: str, recipe: str, reason: str) -> None:
    asked = RECIPES[recipe]().resolved()
    found = fit(asked, get_spec(name)).protocol
    sentence = measured_as(name, asked.protocol, found)
    assert reason in sentence
    assert bool(sentence) == (found != asked.protocol)
    head = f"{name} is measured by {found} and not by {asked.protocol}: "
    assert sentence.startswith(head) or not reason


def test_patches_that_the_neck_resamples_are_a_fact() -> None:
    assert [patches_in_words(side) for side in (8, 16)] == ["8 pixels", "16 pixels"]
    assert patches_in_words(14) == "14 pixels, map resampled to stride 16"


def test_own_networks_keep_their_recipes_to_the_byte() -> None:
    for name, recipe in (("vit-nano", "mini"), ("vit-b16", "vitdet-100ep"), ("swin-t", "swin-1x")):
        before = as_plain(RECIPES[recipe]().resolved())
        assert as_plain(planned(name, recipe)[1]) == before
        assert not {"global_blocks", "tiled_positions", "features", "attention"} & set(
            before["model"]
        )


def built(name: str, config: DetectionConfig) -> tuple[Detector, dict[str, float]]:
    spec = get_spec(name)
    torch.manual_seed(0)
    net = spec.build(build_options(config, spec))
    detector = build_detector(net, spec, config, (3, True), seed=0)
    trained = {key for key, p in net.named_parameters() if p.requires_grad}
    decay = config.optim.layer_decay
    factors = net.lr_factors(decay[0])
    return detector, {key: value for key, value in factors.items() if key in trained}


def windows(config: DetectionConfig, side: int = 4) -> DetectionConfig:
    return replace(config, model=replace(config.model, window_size=side))


def test_facts_are_read_from_the_detector() -> None:
    config = windows(planned("timm:test_vit", "mini")[1])
    detector, factors = built("timm:test_vit", config)
    facts = detector_facts(detector, config, factors)
    assert facts["blocks"] == "6"
    assert facts["attention"] == "windows of 4 in 2 blocks, global in 0, 2, 3, 5"
    assert facts["relative positions"] == "decomposed"
    assert facts["patches"] == "16 pixels"
    assert facts["absolute positions"] == "table of 10 x 10, interpolated"
    assert facts["neck reads"] == "last block, no final norm"
    assert facts["padding"] == "square of 128"
    assert facts["learning-rate factors"].startswith(f"0: {0.6**7:.4g}; 1: {0.6**6:.4g}")
    assert facts["neck"] == "simple pyramid, p3 to p5, 32 channels, LN"
    prove(facts, config, detector.net, factors)


def test_a_network_that_ignores_windows_does_not_train() -> None:
    asked = windows(planned("vit-nano", "mini")[1])
    asked = replace(asked, model=replace(asked.model, global_blocks=(3,)))
    detector, factors = built("vit-nano", planned("vit-nano", "mini")[1])
    facts = detector_facts(detector, asked, factors)
    with pytest.raises(
        UserError,
        match="windows of 4 in 3 blocks, global in 3 stated, global in all blocks found",
    ):
        prove(facts, asked, detector.net, factors)


def test_wrong_rates_and_drop_path_do_not_train() -> None:
    config = planned("vit-nano", "mini")[1]
    detector, factors = built("vit-nano", config)
    facts = detector_facts(detector, config, factors)
    doubled = {key: 2 * value for key, value in factors.items()}
    with pytest.raises(UserError, match="learning-rate factor of"):
        prove(facts, config, detector.net, doubled)
    dropping = replace(config, model=replace(config.model, drop_path=(0.3,)))
    with pytest.raises(UserError, match=r"drop path: 0, 0\.1, 0\.2, 0\.3 stated, 0, 0, 0, 0 found"):
        prove(facts, dropping, detector.net, factors)
    spec = get_spec("vit-nano")
    net = spec.build(build_options(dropping, spec))
    assert drop_path_by_block(net) == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("name", ["vit-nano", "timm:test_vit", "beit-b16"])
@pytest.mark.parametrize("features", ["normed-last", "normed-last4"])
def test_frozen_networks_are_read_as_they_were_pretrained(name: str, features: str) -> None:
    config = RECIPES["mini-frozen-normed"]()
    config = replace(config, model=replace(config.model, features=features)).resolved()
    spec = get_spec(name)
    config = fit(config, spec)
    detector, _ = built(name, config)
    images = torch.randn(1, 3, 128, 96)
    count = 4 if features == "normed-last4" else 1
    plain = spec.build(build_options(config, spec)).eval()
    plain.load_state_dict(detector.net.state_dict())
    with torch.no_grad():
        found = detector.net.eval().normed_map(images, count)
        kept = plain(images, num_last_blocks=count).patch_tokens
    expected = torch.cat(kept, dim=-1).transpose(1, 2).reshape(found.shape)
    torch.testing.assert_close(found, expected)
    facts = detector_facts(detector, config, {})
    assert facts["attention"] == "global in all blocks"
    assert facts["learning-rate factors"] == "backbone frozen"
    assert facts["neck reads"].endswith("final norm")
    assert not any(p.requires_grad for p in detector.net.parameters())
    prove(facts, config, detector.net, {})
    assert detector.backbone(images)["p3"].shape[-2:] == (16, 12)


def test_fixed_networks_are_probed_at_the_recipes_size() -> None:
    config = planned("timm:hiera_tiny_224", "mini")[1]
    detector, _ = built("timm:hiera_tiny_224", config)
    assert set(detector.unused) == {"net.head.norm.weight", "net.head.norm.bias"}


def test_swin_keeps_and_shifts_its_windows_on_small_maps() -> None:
    config = planned("swin-t", "mini")[1]
    detector, factors = built("swin-t", config)
    facts = detector_facts(detector, config, factors)
    each = "7 in 2 blocks, shifted by 3 in 1"
    assert facts["windows"] == f"{each}; {each}; 7 in 6 blocks, shifted by 3 in 3; {each}"
    prove(facts, config, detector.net, factors)
    classifier = get_spec("swin-t").build(BuildOptions(config.data.img_size))
    with pytest.raises(UserError, match="shifted in every second block stated"):
        prove(facts, config, classifier, {})


def test_swin_nano_is_built_as_before() -> None:
    spec = get_spec("swin-nano")
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    maps = []
    for options in (BuildOptions(128), BuildOptions(128, keep_windows=True)):
        torch.manual_seed(0)
        maps.append(spec.build(options).eval().forward_maps(images))
    for before, after in zip(*maps, strict=True):
        assert torch.equal(before, after)
