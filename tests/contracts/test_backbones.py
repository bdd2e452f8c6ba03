"""The contract over the whole registry: a new zoo file is tested the day it appears."""

import pytest
import torch

from backbones.catalog import get_spec, list_specs
from backbones.check import check_backbone
from backbones.spec import BackboneSpec, BuildOptions
from backbones.weights.source import has_weights, open_checkpoint

ZOO = [spec.name for spec in list_specs()]
SMALL = [name for name in ZOO if name.endswith("nano")]
ODD = (201, 150)  # divides by no stride
# Weights, gradients and a saved copy of these take gigabytes and tell nothing new.
HUGE = {"vit-l16", "vit-h14"}


@pytest.fixture(params=ZOO)
def spec(request: pytest.FixtureRequest) -> BackboneSpec:
    return get_spec(request.param)


def failures(name: str) -> list[str]:
    # What a package holds may not be installed, and is tested where it is.
    checkpoint = open_checkpoint(f"random:{name}" if has_weights(name) else name)
    results = list(check_backbone(get_spec(checkpoint.backbone), checkpoint))
    assert len(results) == 11
    return [f"{r.name}: {r.detail}" for r in results if not r.passed]


def test_facts_on_the_card_are_the_networks(spec: BackboneSpec) -> None:
    with torch.device("meta"):
        backbone = spec.build(BuildOptions()).eval()
    assert backbone.strides == spec.strides
    assert backbone.channels == spec.channels
    assert backbone.num_layers == spec.num_layers
    assert (spec.layout == "plain") == (len(spec.strides) == 1)
    assert spec.source

    height, width = ODD
    maps = backbone.forward_maps(torch.empty(1, 3, height, width, device="meta"))
    sizes = [(-(-height // stride), -(-width // stride)) for stride in spec.strides]
    wanted = [(1, c, *size) for c, size in zip(spec.channels, sizes, strict=True)]
    assert [tuple(m.shape) for m in maps] == wanted

    ids = {name: backbone.layer_id(name) for name, _ in backbone.named_parameters()}
    assert set(range(spec.num_layers + 1)) <= set(ids.values()) <= set(range(spec.num_layers + 2))
    assert all(ids[name] == 0 for name in ids if "patch_embed" in name)
    assert backbone.no_weight_decay() <= set(ids)
    with pytest.raises(KeyError):
        backbone.layer_id("no.such.parameter")


@pytest.mark.parametrize("name", [*SMALL, "random:timm:test_convnext", "random:timm:test_vit"])
def test_check_passes(name: str) -> None:
    assert failures(name) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ZOO if name not in {*SMALL, *HUGE}])
def test_check_passes_on_the_large_ones(name: str) -> None:
    assert failures(name) == []
