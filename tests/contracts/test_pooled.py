"""``pooled`` is what a timm network's own classifier is fed, bit for bit; one network a file."""

import re
from collections import defaultdict

import pytest
import timm
import torch
from torch import nn

from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.timm_networks.families import build_timm
from backbones.weights.content import Content
from backbones.weights.fit import hold
from backbones.weights.formats import FORMATS

# Fast ones: each pools in a way of its own.
CHOSEN = (
    "beit_base_patch16_224",  # norm behind the mean
    "test_convnext",
    "crossvit_tiny_240",  # two classifiers, two inputs
    "efficientvit_m0",  # a norm in the classifier
    "levit_128s",  # two classifiers, a norm in each
    "test_nfnet",
    "mobilenetv3_small_050",  # a convolution behind the pooling
    "resnet10t",
    "selecsls42",  # stride 64, trained at 224
    "test_vit",
)
# More parameters than a machine of CI runs in a few seconds.
LARGE = 1e8
# Their classifier has two layers; the features that timm gives are those in front of both.
OF_TWO_LAYERS = ("caformer", "convformer")
# What timm calls small networks.
SMALL = re.compile("test_|atto|femto|pico|nano|zepto|tiny|xxs|xs|small|_s0|_b0|_0|18|26|32|s12|_m0")
# VOLO's second matrix classifies every patch on its own; it is not fed a vector of the image.
OF_PATCHES = {"aux_head"}


def with_classifiers(name: str) -> nn.Module:
    """A network whose norms are not those of a build."""
    torch.manual_seed(0)
    net = timm.create_model(name).eval()
    for parameter in net.parameters():
        if parameter.ndim < 2:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    for key, buffer in net.named_buffers():
        if key.endswith("running_mean"):
            buffer.add_(0.1 * torch.randn_like(buffer))
    return net


def inputs_of_classifiers(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What is fed to the classifiers; inputs that are the same tensor count once."""
    names = net.pretrained_cfg["classifier"]
    fed: list[torch.Tensor] = []
    for name in {names} if isinstance(names, str) else dict.fromkeys(names):
        if name in OF_PATCHES:
            continue
        net.get_submodule(name).register_forward_hook(lambda *given: fed.append(given[1][0]))
    with torch.no_grad():
        net(images)
    distinct: list[torch.Tensor] = []
    for one in fed:
        if not any(one.shape == other.shape and torch.equal(one, other) for other in distinct):
            distinct.append(one)
    return torch.cat([one.flatten(1) for one in distinct], dim=1)


def check(name: str) -> None:
    net = with_classifiers(name)
    size = net.pretrained_cfg["input_size"][-1]
    images = torch.randn(2, 3, size, size)
    expected = inputs_of_classifiers(net, images)
    backbone = build_timm(name, BuildOptions(img_size=size))
    content = Content(dict(net.state_dict()), {}, ())
    fit = hold(content, FORMATS["timm"], "", get_spec(f"timm:{name}"), backbone)
    assert fit.whole, (fit.missing[:3], fit.spare[:3], fit.wrong[:3])
    own = backbone.state_dict()
    backbone.load_state_dict({k: v for k, v in fit.state.items() if k in own}, strict=False)
    with torch.no_grad():
        found = backbone.eval()(images).pooled
    assert found.shape == expected.shape
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", CHOSEN)
def test_pooled_is_what_the_classifier_is_fed(name: str) -> None:
    check(name)


def size_of(name: str) -> int | None:
    """The number of parameters; None without a classifier or where none can be counted."""
    with torch.device("meta"):
        try:
            net = timm.create_model(name)
        except RuntimeError:  # computes with values while it is built
            return None
    counted = sum(parameter.numel() for parameter in net.parameters())
    return counted if net.pretrained_cfg.get("classifier") else None


def small_one_of_each_file() -> list[str]:
    """A small network of each of timm's files: the smallest of those that a name calls small.

    Building every network to count its parameters would take longer than the test itself.
    """
    by_file = defaultdict(list)
    for name in timm.list_models(exclude_filters=[f"{start}*" for start in OF_TWO_LAYERS]):
        by_file[timm.models.model_entrypoint(name).__module__].append(name)
    chosen = []
    for _, names in sorted(by_file.items()):
        called = [name for name in names if SMALL.search(name)] or names
        sizes = {name: size for name in called[:2] if (size := size_of(name))}
        if sizes and min(sizes.values()) < LARGE:
            chosen.append(min(sizes, key=lambda name: sizes[name]))
    return chosen


@pytest.mark.slow
def test_pooled_of_one_network_of_each_file_of_timm() -> None:
    failed = {}
    names = small_one_of_each_file()
    assert len(names) > 70
    for name in names:
        try:
            check(name)
        except Exception as error:  # all files are tried, and told together
            failed[name] = f"{type(error).__name__}: {str(error)[:200]}"
    assert failed == {}
