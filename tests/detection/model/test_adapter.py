"""Any backbone as detectron2's: padding, frozen parts that stay frozen, unused parameters."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from backbones.base.errors import UserError
from backbones.catalog import get_spec
from backbones.features import Backbone
from backbones.spec import BackboneSpec, BuildOptions
from detection.config import DetectionConfig, ModelConfig
from detection.model.adapter import adapt, freeze, freeze_unused
from detection.model.detector import build_detector
from detection.model.pyramid import MapNorm

SMALL = ModelConfig(channels=16, window_size=0)


def build(name: str, drop_path: float = 0.0) -> Backbone:
    return get_spec(name).build(BuildOptions(img_size=64, drop_path=drop_path))


@pytest.mark.parametrize("name", ["vit-nano", "swin-nano", "resnet-nano"])
def test_pyramid_as_vitdet(name: str) -> None:
    adapter = adapt(build(name), SMALL, square=0)
    shapes = adapter.output_shape()
    assert {k: v.stride for k, v in shapes.items()} == {f"p{n}": 2**n for n in range(2, 7)}
    maps = adapter.eval()(torch.randn(1, 3, 64, 96))
    for key, shape in shapes.items():
        assert maps[key].shape == (1, 16, -(-64 // shape.stride), -(-96 // shape.stride))


@pytest.mark.parametrize("name", ["vit-nano", "swin-nano", "resnet-nano"])
@pytest.mark.parametrize("square", [0, 128])
def test_batches_are_padded_to_what_the_adapter_says(name: str, square: int) -> None:
    """Trap B2: detectron2's pyramid pads nothing without a square. Trap B3: nor may it raise."""
    from detectron2.structures import ImageList

    adapter = adapt(build(name), SMALL, square)
    assert adapter.size_divisibility == 32
    images = ImageList.from_tensors(
        [torch.zeros(3, 100, 70)],
        adapter.size_divisibility,
        padding_constraints=adapter.padding_constraints,
    )
    expected = (128, 128) if square else (128, 96)
    assert images.tensor.shape[-2:] == expected
    assert adapter(images.tensor)["p2"].shape[-2:] == (expected[0] // 4, expected[1] // 4)


def test_detectron2s_own_pyramid_pads_nothing() -> None:
    """The trap is real, or the test above would prove nothing."""
    from detectron2.modeling import SimpleFeaturePyramid, ViT
    from detectron2.structures import ImageList

    vit = ViT(img_size=64, patch_size=16, embed_dim=32, depth=1, num_heads=2, out_feature="f")
    theirs = SimpleFeaturePyramid(vit, "f", 16, (4.0, 2.0, 1.0, 0.5), square_pad=0)
    images = ImageList.from_tensors(
        [torch.zeros(3, 100, 70)],
        theirs.size_divisibility,
        padding_constraints=theirs.padding_constraints,
    )
    assert images.tensor.shape[-2:] == (100, 70)


def test_layer_norm_networks_get_fresh_norms_on_their_maps() -> None:
    swin = adapt(build("swin-nano"), SMALL, 0).bottom_up.norms
    assert all(isinstance(norm, MapNorm) for norm in swin)
    assert len(swin) == 4
    resnet = adapt(build("resnet-nano"), SMALL, 0).bottom_up.norms
    assert all(isinstance(norm, nn.Identity) for norm in resnet)


def test_missing_stride_is_named() -> None:
    with pytest.raises(UserError, match="stride 2"):
        adapt(build("swin-nano"), replace(SMALL, rpn_levels=(1, 2, 3), roi_levels=(2,)), 0)


@pytest.mark.parametrize("name", ["vit-nano", "swin-nano", "resnet-nano"])
def test_all_parts_of_a_frozen_backbone_stay_quiet(name: str, toy_config: DetectionConfig) -> None:
    """Trap B6: ``train()`` must not bring stochastic depth back to a frozen backbone."""
    config = replace(toy_config, model=replace(toy_config.model, freeze="all"))
    net = build(name, drop_path=0.5)
    detector = build_detector(net, get_spec(name), config, (3, True), seed=0)
    detector.train()
    assert not any(p.requires_grad for p in net.parameters())
    assert not any(module.training for module in net.modules())
    assert detector.roi_heads.training
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        first, second = net.forward_maps(images), net.forward_maps(images)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["vit-nano", "swin-nano"])
def test_frozen_first_layers(name: str) -> None:
    net = build(name, drop_path=0.5)
    quiet = freeze(net, ModelConfig(freeze="first-2"))
    for parameter_name, parameter in net.named_parameters():
        assert parameter.requires_grad == (net.layer_id(parameter_name) > 2), parameter_name
    assert quiet
    assert net not in quiet


def test_frozen_batch_norm_keeps_its_statistics(
    toy_config: DetectionConfig, toy_batch: Callable[..., list[dict[str, object]]]
) -> None:
    from detectron2.utils.events import EventStorage

    config = replace(toy_config, model=replace(toy_config.model, freeze_batchnorm=True))
    net = build("resnet-nano")
    detector = build_detector(net, get_spec("resnet-nano"), config, (3, True), seed=0).train()
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
    with EventStorage(0):
        sum(detector(toy_batch()).values()).backward()
    assert before
    for key, value in before.items():
        torch.testing.assert_close(net.state_dict()[key], value, rtol=0, atol=0)


def test_parameters_that_no_map_needs_are_fixed(plain_spec: BackboneSpec) -> None:
    net = plain_spec.build(BuildOptions(img_size=64))
    before = {name: p.clone() for name, p in net.named_parameters()}
    assert freeze_unused(net, 64) == ["norm.weight", "norm.bias"]
    assert not net.norm.weight.requires_grad
    assert net.training
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
