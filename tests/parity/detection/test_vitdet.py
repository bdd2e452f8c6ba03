"""Our detectors against detectron2's own, same weights in both."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import detectron2
import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import SimpleFeaturePyramid, SwinTransformer, ViT
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from backbones.catalog import get_spec
from backbones.spec import BackboneSpec, BuildOptions
from backbones.vit.config import ViTConfig
from backbones.vit.network import VisionTransformer
from detection.config import ModelConfig
from detection.model.adapter import adapt
from detection.model.detector import build_detector
from detection.model.pyramid import SimplePyramid
from detection.recipes import RECIPES

MODELS = Path(detectron2.__file__).parent / "model_zoo" / "configs" / "common" / "models"
SIDE = 128
SHAPE = ViTConfig(embed_dim=32, num_layers=4, num_heads=2, patch_size=16, positions="learned")
OPTIONS = BuildOptions(img_size=SIDE, window_size=3, relative_positions=True)
SPEC = BackboneSpec(
    name="small",
    build=lambda options: VisionTransformer(SHAPE, options),
    layout="plain",
    strides=(16,),
    channels=(32,),
    num_layers=4,
    source="ViTDet, small",
)


def shake(module: nn.Module) -> None:
    """Give every parameter a value that a mistake would show in; norms start at one otherwise."""
    generator = torch.Generator().manual_seed(7)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.add_(noise, alpha=0.02)


def their_vit() -> ViT:
    return ViT(
        img_size=SIDE,
        patch_size=16,
        embed_dim=32,
        depth=4,
        num_heads=2,
        norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6),
        window_size=3,
        # All but the last one of each quarter, which are four of four here: global throughout but
        # for what the options below say.
        window_block_indexes=[],
        use_rel_pos=True,
        pretrain_img_size=SIDE,
        out_feature="last_feat",
    )


def as_ours(state: dict[str, Tensor], ours: nn.Module, net: str, neck: str) -> dict[str, Tensor]:
    """Rename detectron2's tensors, and add those that only ours has."""
    named = {}
    for name, value in state.items():
        if name.startswith("backbone.simfp"):
            name = name.replace("backbone.", f"backbone.{neck}", 1)
        named[name] = value
    for name, value in ours.state_dict().items():
        if name not in named and name.startswith(net):
            named[name] = value
    return named


def test_simple_pyramid() -> None:
    vit = their_vit()
    theirs = SimpleFeaturePyramid(
        vit, "last_feat", 24, (4.0, 2.0, 1.0, 0.5), LastLevelMaxPool(), "LN", SIDE
    )
    shake(theirs)
    ours = SimplePyramid(32, 16, 24, (2, 3, 4, 5, 6), "LN")
    neck = {n: v for n, v in theirs.state_dict().items() if not n.startswith("net.")}
    ours.load_state_dict(neck)
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = theirs.eval()(images)
        found = ours(vit(images)["last_feat"], SIDE, SIDE)
    assert list(found) == list(expected)
    for level, value in expected.items():
        torch.testing.assert_close(found[level], value, rtol=1e-4, atol=1e-4)


def make_batch(num_images: int = 2) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    batch = []
    for number in range(num_images):
        height, width = (SIDE, SIDE - 32 * number)
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.tensor([[8.0, 12, 60, 70], [40, 30, 90, 110]]))
        instances.gt_classes = torch.tensor([3, 70])
        masks = torch.zeros(2, height, width, dtype=torch.bool)
        masks[0, 12:70, 8:60] = True
        masks[1, 30:110, 40:90] = True
        instances.gt_masks = BitMasks(masks)
        image = torch.randint(0, 256, (3, height, width), generator=generator).to(torch.uint8)
        batch.append({"image": image, "instances": instances, "image_id": number})
    return batch


def losses_of(detector: nn.Module, batch: list[dict[str, Any]]) -> dict[str, float]:
    torch.manual_seed(11)
    with EventStorage(0), torch.no_grad():
        return {name: value.item() for name, value in detector.train()(batch).items()}


def test_mask_rcnn_losses_equal_vitdets() -> None:
    """detectron2's mask_rcnn_vitdet graph, its widths reduced, against the recipe of that name."""
    graph = LazyConfig.load(str(MODELS / "mask_rcnn_vitdet.py")).model
    net = graph.backbone.net
    net.update(img_size=SIDE, embed_dim=32, depth=4, num_heads=2, drop_path_rate=0.0)
    net.update(window_size=3, window_block_indexes=[], pretrain_img_size=SIDE)
    graph.backbone.square_pad = SIDE
    graph.roi_heads.batch_size_per_image = 64
    theirs = instantiate(graph)
    shake(theirs)

    config = RECIPES["vitdet-100ep"]()
    config = replace(
        config,
        data=replace(config.data, img_size=SIDE),
        model=replace(config.model, roi_samples=64),
    ).resolved()
    backbone = SPEC.build(replace(OPTIONS, global_blocks=(0, 1, 2, 3)))
    ours = build_detector(backbone, SPEC, config, (80, True), seed=0)
    ours.load_state_dict(as_ours(theirs.state_dict(), ours, "backbone.net.", "neck."))
    ours.pixel_mean.copy_(theirs.pixel_mean)
    ours.pixel_std.copy_(theirs.pixel_std)

    batch = make_batch()
    expected, found = losses_of(theirs, batch), losses_of(ours, batch)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert set(found) == set(expected)


def _swin_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """detectron2's Swin in timm's names; the merging moves to the start of the next stage."""
    renamed = {}
    for name, value in state.items():
        if name.startswith("norm"):
            continue
        parts = name.split(".")
        if parts[0] == "layers" and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) + 1)
        renamed["net." + ".".join(parts).replace("layers.", "layers_", 1)] = value
    return renamed


@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
def test_swin_with_fpn(size: tuple[int, int]) -> None:
    spec = get_spec("swin-nano")
    ours = adapt(spec.build(BuildOptions(img_size=128)), ModelConfig(channels=24, neck_norm=""), 0)
    swin = SwinTransformer(
        embed_dim=32, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8], window_size=4, drop_path_rate=0.0
    )
    theirs = FPN(swin, ["p0", "p1", "p2", "p3"], 24, norm="", top_block=LastLevelMaxPool())
    shake(theirs)
    state = theirs.state_dict()
    named: dict[str, Tensor] = {n: v for n, v in state.items() if not n.startswith("bottom_up.")}
    inner = {
        n.removeprefix("bottom_up."): v for n, v in state.items() if n.startswith("bottom_up.")
    }
    separator = "layers_" if any("layers_" in n for n in ours.state_dict()) else "layers."
    for name, value in _swin_names(inner).items():
        named["bottom_up.net." + name.replace("layers_", separator, 1)] = value
    for index in range(4):
        for kind in ("weight", "bias"):
            named[f"bottom_up.norms.{index}.{kind}"] = inner[f"norm{index}.{kind}"]
    wanted = ours.state_dict()
    assert {n for n in wanted if n not in named} <= {
        n for n in wanted if n.startswith(("bottom_up.net.net.norm", "bottom_up.net.norm"))
    }
    ours.load_state_dict({n: v for n, v in named.items() if n in wanted}, strict=False)
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected, found = theirs.eval()(images), ours.eval()(images)
    for level, value in expected.items():
        torch.testing.assert_close(found[level], value, rtol=1e-4, atol=1e-4)
