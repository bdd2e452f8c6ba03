"""Networks of today: each is measured under a protocol by name, or refused in a sentence."""

import re
from dataclasses import replace

import pytest
import torch

from backbones.base.errors import UserError
from backbones.catalog import get_spec
from backbones.spec import BackboneSpec
from detection.config import DetectionConfig, at_depth
from detection.model.detector import build_detector
from detection.model.facts import detector_facts, prove
from detection.protocols import build_options, fit
from detection.recipes import RECIPES, default_recipe

# The smallest of each family that timm lists.
NETWORKS = (
    "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3",
    "convnext_tiny.dinov3_lvd1689m", "vit_base_patch16_siglip_224",
    "vit_base_patch16_siglip_256.v2_webli", "naflexvit_base_patch16_siglip",
    "vit_pe_core_tiny_patch16_384", "vit_pe_core_base_patch16_224",
    "vit_pe_spatial_tiny_patch16_512", "vit_base_patch16_224.mae", "vit_base_patch16_224.dino",
    "vit_base_patch16_clip_224.openai", "aimv2_large_patch14_224", "samvit_base_patch16",
    "sam2_hiera_tiny", "eva02_tiny_patch14_224", "beitv2_base_patch16_224",
    "deit3_small_patch16_224", "convnextv2_atto", "swinv2_tiny_window8_256", "maxvit_tiny_tf_224",
    "hiera_tiny_224", "fastvit_t8", "fastvit_mci0", "xcit_nano_12_p16_224", "tiny_vit_5m_224",
    "cait_xxs24_224", "levit_128s", "volo_d1_224", "vit_small_patch16_rope_mixed_224",
    "efficientvit_m0", "vit_srelpos_small_patch16_224", "vitamin_small_224",
)  # fmt: skip


def planned(name: str) -> tuple[BackboneSpec, DetectionConfig]:
    spec = get_spec(f"timm:{name}")
    recipe = RECIPES[default_recipe(spec, mini=False)]()
    # Images of 256 pixels, and the narrow heads of the mini recipe; the backbone is the recipe's.
    small = RECIPES["mini"]().model
    model = replace(
        recipe.model,
        channels=small.channels, roi_samples=small.roi_samples, rpn_samples=small.rpn_samples,
        rpn_candidates=small.rpn_candidates, proposals=small.proposals, box_fcs=small.box_fcs,
    )  # fmt: skip
    data = replace(recipe.data, img_size=256, max_size=256, short_sides=(256,))
    evaluation = replace(recipe.evaluation, short_side=256, max_size=256)
    config = replace(recipe, model=model, data=data, evaluation=evaluation)
    return spec, fit(config.resolved(), spec)


def one_step(spec: BackboneSpec, config: DetectionConfig) -> dict[str, str]:
    """Train a step on an image of 256 pixels and return the facts about the detector."""
    from detectron2.structures import BitMasks, Boxes, Instances
    from detectron2.utils.events import EventStorage

    torch.manual_seed(0)
    net = spec.build(build_options(config, spec))
    detector = build_detector(net, spec, config, (3, True), seed=0)
    factors = net.lr_factors(at_depth(config.optim.layer_decay, net.num_layers))
    facts = detector_facts(detector, config, factors)
    prove(facts, config, net, factors)
    masks = torch.zeros(1, 256, 256, dtype=torch.bool)
    masks[:, 40:150, 60:200] = True
    instances = Instances(
        (256, 256),
        gt_boxes=Boxes(torch.tensor([[60.0, 40, 200, 150]])),
        gt_classes=torch.tensor([1]),
        gt_masks=BitMasks(masks),
    )
    image = torch.randint(0, 256, (3, 256, 256), dtype=torch.uint8)
    with EventStorage():
        losses = detector([{"image": image, "instances": instances}])
    total = torch.stack(list(losses.values())).sum()
    torch.autograd.backward(total)
    assert torch.isfinite(total)
    trained = [p for p in detector.parameters() if p.requires_grad]
    torch.optim.SGD(trained, lr=1e-4).step()
    missing = [key for key, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    return facts


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_each_is_measured_or_refused(name: str) -> None:
    refusal, blocks = "", ""
    spec = get_spec(f"timm:{name}")
    try:
        blocks = one_step(*planned(name))["blocks"]
    except UserError as error:
        refusal = str(error)
    assert blocks == str(spec.num_layers) or re.fullmatch(r"[^\n]+\.", refusal)
