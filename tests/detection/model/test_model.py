"""Detectors built from detectron2's graphs: right sizes, right colours, no silent crop."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from detectron2.config import instantiate
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.utils.events import EventStorage

from backbones.base.errors import UserError
from backbones.base.traces import written_as_graph
from backbones.catalog import get_spec
from backbones.spec import BackboneSpec, BuildOptions
from detection.config import DetectionConfig
from detection.model import cost
from detection.model.adapter import adapt
from detection.model.detector import Detector, _graph, build_detector
from detection.protocols import build_options
from detection.recipes import RECIPES

MakeBatch = Callable[..., list[dict[str, Any]]]


def make(
    spec: BackboneSpec, config: DetectionConfig, masks: bool = True, seed: int = 0
) -> Detector:
    torch.manual_seed(0)
    net = spec.build(BuildOptions(img_size=config.data.img_size))
    return build_detector(net, spec, config, (3, masks), seed)


@pytest.mark.parametrize("kind", ["mask-rcnn", "cascade-mask-rcnn"])
@pytest.mark.parametrize("masks", [True, False])
def test_detectors_train_and_detect(
    kind: str,
    masks: bool,
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    toy_batch: MakeBatch,
) -> None:
    config = replace(toy_config, model=replace(toy_config.model, detector=kind))
    detector = make(plain_spec, config, masks)
    with EventStorage(0):
        losses = detector(toy_batch(masks=masks))
    sum(losses.values()).backward()
    assert ("loss_mask" in losses) == masks
    assert any("stage2" in name for name in losses) == (kind == "cascade-mask-rcnn")
    silent = [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []
    detector.eval()
    with torch.no_grad():
        fields = detector(toy_batch(masks=masks))[0]["instances"].get_fields()
    assert ("pred_masks" in fields) == masks
    assert {"pred_boxes", "scores", "pred_classes"} <= set(fields)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vitdet-12ep", "swin-1x", "r50-fpn-1x", "vitdet-100ep-cascade"])
def test_full_recipes_build(name: str, toy_batch: MakeBatch) -> None:
    """The published heads, on a small image, a small backbone and few regions."""
    config = RECIPES[name]()
    config = replace(
        config,
        data=replace(config.data, img_size=64),
        model=replace(config.model, roi_samples=8, proposals=(20, 20)),
    ).resolved()
    spec = get_spec({"swin-1x": "swin-nano", "r50-fpn-1x": "resnet-nano"}.get(name, "vit-nano"))
    detector = make(spec, config)
    with EventStorage(0):
        losses = detector(toy_batch(1))
    assert all(torch.isfinite(loss) for loss in losses.values())
    heads = 3 if "cascade" in name else 1
    box_heads = detector.roi_heads.box_head if heads > 1 else [detector.roi_heads.box_head]
    assert len(box_heads) == heads
    widths = [f.out_features for f in box_heads[0].fcs]
    assert widths == list(config.model.box_fcs)
    assert len(box_heads[0].conv_norm_relus) == config.model.box_convs


def test_vitdets_heads_have_the_published_size() -> None:
    """ViT-B, 80 classes, counted from detectron2's config: SFP 5.6, RPN 1.2, RoI heads 18.3."""
    config = RECIPES["vitdet-100ep"]().resolved()
    spec = get_spec("vit-b16")
    with torch.device("meta"):
        net = spec.build(BuildOptions(img_size=1024, window_size=14, relative_positions=True))
    graph = _graph(config.model, config.evaluation, 80, True)

    def millions(module: torch.nn.Module) -> float:
        return round(sum(p.numel() for p in module.parameters()) / 1e6, 1)

    adapter = adapt(net, config.model, 1024)
    assert millions(adapter.neck) == 5.6
    assert millions(instantiate(graph.proposal_generator)) == 1.2
    assert millions(instantiate(graph.roi_heads)) == 18.3
    # Without the final norm, which is unused, and the table of positions, whose size is the
    # checkpoint's (0.15 M of the published 85.9 M).
    aside = ("norm.", "pos_embed")
    trained = sum(p.numel() for n, p in net.named_parameters() if not n.startswith(aside))
    assert trained / 1e6 == pytest.approx(85.9 - 0.15, abs=0.05)


@pytest.mark.parametrize("num_images", [1, 2])
def test_images_larger_than_the_square_are_refused(
    num_images: int, plain_spec: BackboneSpec, toy_config: DetectionConfig, toy_batch: MakeBatch
) -> None:
    """Trap B1: detectron2 crops a single larger image without a word."""
    detector = make(plain_spec, toy_config)
    with pytest.raises(UserError, match="padded square of 64"):
        detector.preprocess_image(toy_batch(num_images, side=96))


def test_pixels_are_normalised_as_the_backbone_wants(
    plain_spec: BackboneSpec, toy_config: DetectionConfig
) -> None:
    """Trap B8: RGB on the scale of 0 to 255, from the spec, in one place."""
    spec = replace(plain_spec, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    detector = make(spec, toy_config)
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[0] = 255
    batch = detector.preprocess_image([{"image": image}]).tensor
    assert detector.input_format == "RGB"
    expected = [(1 - 0.1) / 0.5, -0.2 / 0.25, -0.3 / 0.125]
    assert batch[0, :, 0, 0].tolist() == pytest.approx(expected, rel=1e-5)
    assert batch.shape[-2:] == (64, 64)
    assert batch[0, :, 40, 40].abs().max() == 0


def test_fresh_heads_come_from_the_seed(
    plain_spec: BackboneSpec, toy_config: DetectionConfig
) -> None:
    first, again, other = (make(plain_spec, toy_config, seed=s) for s in (1, 1, 2))
    key = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])


def test_the_number_of_classes_comes_from_the_data(
    plain_spec: BackboneSpec, toy_config: DetectionConfig
) -> None:
    detector = make(plain_spec, toy_config)
    assert detector.roi_heads.box_predictor.cls_score.out_features == 3 + 1
    assert detector.roi_heads.mask_head.predictor.out_channels == 3


def test_activation_checkpointing_changes_no_gradient(
    plain_spec: BackboneSpec, toy_config: DetectionConfig, toy_batch: MakeBatch
) -> None:
    grads = []
    for enabled in (False, True):
        model = replace(toy_config.model, activation_checkpointing=enabled)
        detector = make(plain_spec, replace(toy_config, model=model))
        torch.manual_seed(3)
        with EventStorage(0):
            sum(detector(toy_batch()).values()).backward()
        grads.append(detector.net.patch_embed.proj.weight.grad)
    torch.testing.assert_close(grads[0], grads[1])


def test_bf16_autocast_runs_on_the_cpu(
    plain_spec: BackboneSpec, toy_config: DetectionConfig, toy_batch: MakeBatch
) -> None:
    detector = make(plain_spec, toy_config)
    with EventStorage(0), torch.autocast("cpu", torch.bfloat16):
        losses = detector(toy_batch())
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("kind", ["mask-rcnn", "cascade-mask-rcnn"])
def test_the_arithmetic_counted_is_the_same_whatever_is_found(
    kind: str, plain_spec: BackboneSpec, toy_config: DetectionConfig
) -> None:
    config = replace(toy_config, model=replace(toy_config.model, detector=kind))
    net, other = make(plain_spec, config), make(plain_spec, config)
    for module in other.modules():
        if isinstance(module, FastRCNNOutputLayers):
            torch.nn.init.constant_(module.cls_score.bias, -10.0)
            torch.nn.init.constant_(module.cls_score.bias[:1], 10.0)
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        found = [len(one.eval()([{"image": image}])[0]["instances"]) for one in (net, other)]
    assert found[0] != found[1]
    assert cost.gflops(net, 64) == cost.gflops(other, 64)
    assert cost.gflops(net, 64) > cost.gflops(make(plain_spec, config, masks=False), 64)


def test_multiply_adds_are_those_of_the_network_as_it_runs() -> None:
    """The fold of relative positions into heads is wider; it is for graphs and GPUs."""
    spec, config = get_spec("vit-nano"), RECIPES["mini"]()
    net = spec.build(build_options(config, spec))
    detector = build_detector(net, spec, config, (10, True), 0)
    counted = cost.gflops(detector, config.data.img_size)
    with written_as_graph():
        assert cost.gflops(detector, config.data.img_size) > 1.1 * counted
    assert counted == pytest.approx(0.613833884)
