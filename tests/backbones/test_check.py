"""The check passes what docs/backbones.md shows, and catches every kind of broken contract."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace as replace_checkpoint
from torch import Tensor, nn

from backbones.catalog import get_spec, list_specs
from backbones.check import check_backbone
from backbones.checkpoint import Checkpoint
from backbones.features import Backbone, Features
from backbones.spec import BackboneSpec, BuildOptions
from backbones.vit.positions import resize_positions
from backbones.vit.positions_rule import ANTIALIASED, BICUBIC, NUDGED
from backbones.weights.loading import format_of
from backbones.weights.source import open_checkpoint

DOCS = Path(__file__).resolve().parents[2] / "docs" / "backbones.md"
TINY = Path(__file__).resolve().parents[1] / "parity" / "backbones" / "tiny"
FRESH = Checkpoint(backbone="broken", path=None, sha256="random")


class Good(Backbone):
    """A small network that keeps the contract; the ones below break it in one way each."""

    strides = (4, 8)
    channels = (4, 8)
    num_layers = 1

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 8, 2, 2)])

    def forward(self, images: Tensor, num_last_blocks: int = 0) -> Features:
        maps = self.forward_maps(images)
        return Features(pooled=maps[-1].mean(dim=(2, 3)), maps=maps)

    def forward_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        height, width = images.shape[-2:]
        x = nn.functional.pad(images, (0, -width % 8, 0, -height % 8))
        maps = []
        for stride, stage in zip(self.strides, self.stages, strict=True):
            x = stage(x).tanh()
            maps.append(x[..., : -(-height // stride), : -(-width // stride)])
        return tuple(maps)

    def layer_id(self, parameter_name: str) -> int:
        return {"stages.0": 0, "stages.1": 1}[parameter_name.rpartition(".")[0]]


class NoPadding(Good):
    def forward_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        first = self.stages[0](images).tanh()
        return (first, self.stages[1](first).tanh())


class RandomInEvaluation(Good):
    def forward(self, images: Tensor, num_last_blocks: int = 0) -> Features:
        features = super().forward(images)
        return replace(features, pooled=features.pooled + torch.rand_like(features.pooled))


class LeaksAcrossBatch(Good):
    def forward_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        return super().forward_maps(images - images.mean(dim=0, keepdim=True))


class DeadParameter(Good):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones(3))

    def layer_id(self, parameter_name: str) -> int:
        return 0 if parameter_name == "unused" else super().layer_id(parameter_name)


class HiddenState(Good):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = torch.rand(())  # neither parameter nor buffer: not saved

    def forward_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        return super().forward_maps(images * self.hidden.to(images.device))


class FallingLayers(Good):
    def layer_id(self, parameter_name: str) -> int:
        return 1 - super().layer_id(parameter_name)


class OtherMaps(Good):
    def forward(self, images: Tensor, num_last_blocks: int = 0) -> Features:
        features = super().forward(images)
        return replace(features, maps=tuple(m * 2 for m in features.maps))


class WrongRecomputation(Good):
    recomputes = False

    def forward_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        return super().forward_maps(images * 2 if self.recomputes else images)

    def set_activation_checkpointing(self, enabled: bool) -> None:
        self.recomputes = enabled


class Crashes(Good):
    def __init__(self) -> None:
        raise ZeroDivisionError("in the constructor")


def spec_of(build: Callable[[], Backbone], **facts: Any) -> BackboneSpec:
    declared = {"strides": (4, 8), "channels": (4, 8), "num_layers": 1} | facts
    return BackboneSpec(
        name="broken", build=lambda options: build(), layout="hierarchical", source="", **declared
    )


def failures(spec: BackboneSpec) -> dict[str, str]:
    results = list(check_backbone(spec, FRESH))
    assert all("\n" not in result.detail for result in results)
    return {result.name: result.detail for result in results if not result.passed}


def test_a_network_that_keeps_the_contract_passes() -> None:
    assert failures(spec_of(Good)) == {}


@pytest.mark.parametrize(
    ("build", "caught", "detail"),
    [
        (NoPadding, "shapes", "maps of 201 x 150 are"),
        (NoPadding, "odd sizes", "maps of"),
        (RandomInEvaluation, "determinism", "two evaluations of the same images differ"),
        (LeaksAcrossBatch, "batch size", "alone and in a batch differ by"),
        (DeadParameter, "gradients", "no gradient reaches unused"),
        (HiddenState, "save and load", "some state is not saved"),
        (FallingLayers, "layer ids", "fall somewhere"),
        (OtherMaps, "maps alone", "forward_maps and of forward differ"),
        (WrongRecomputation, "recomputation", "with and without recomputation differ"),
        (Crashes, "weights", "ZeroDivisionError: in the constructor"),
    ],
)
def test_every_broken_promise_is_caught(
    build: Callable[[], Backbone], caught: str, detail: str
) -> None:
    assert detail in failures(spec_of(build)).get(caught, "")


@pytest.mark.parametrize("facts", [{"strides": (4, 16)}, {"channels": (4, 9)}, {"num_layers": 2}])
def test_false_declarations_are_caught(facts: dict[str, Any]) -> None:
    assert next(iter(facts)) in failures(spec_of(Good, **facts))["declared facts"]


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)


def test_the_documents_examples_pass_as_plugins(tmp_path: Path) -> None:
    for index, text in enumerate(examples()):
        (tmp_path / f"example_{index}.py").write_text(text)
    known = {spec.name for spec in list_specs()}
    names = [spec.name for spec in list_specs(tmp_path) if spec.name not in known]
    assert len(names) == len(examples()) == 2
    for name in names:
        checkpoint = open_checkpoint(name, tmp_path)
        results = list(check_backbone(get_spec(name, tmp_path), checkpoint))
        assert [f"{r.name}: {r.detail}" for r in results if not r.passed] == []


def test_the_document_names_every_format_and_only_backbones_that_exist() -> None:
    from backbones.weights.formats import FORMATS

    checkpoints = DOCS.with_name("checkpoints.md").read_text()
    assert [form for form in FORMATS if f"| `{form}` |" not in checkpoints] == []
    text = DOCS.read_text()
    rows = [row.split("|")[3] for row in text.splitlines() if re.match(r"\| `\w+` \| \S+[/ ]", row)]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert named - {spec.name for spec in list_specs()} - {"timm:NAME"} == set()


@pytest.mark.parametrize("name", ["clip", "dinov2", "franca", "aimv2", "siglip", "vit-gap"])
def test_a_plug_in_of_timms_vit_resizes_its_saved_positions_as_before(name: str) -> None:
    spec = get_spec(f"tiny-{name}", TINY)
    fresh = replace_checkpoint(FRESH, backbone=spec.name)
    results = {result.name: result for result in check_backbone(spec, fresh)}
    for check in ("declared facts", "save and load"):
        assert results[check].passed, results[check].detail
    undeclared = {
        r.name: r.detail for r in check_backbone(replace(spec, position_rule=BICUBIC), fresh)
    }
    assert "declare position_rule=ANTIALIASED" in undeclared["declared facts"]


@pytest.mark.parametrize(
    ("name", "method", "rule"),
    [
        ("franca-b14", "supervised", ANTIALIASED),
        ("franca-b14", "franca", NUDGED),
        ("vit-s16", "supervised", BICUBIC),
        ("vit-s16", "dino", NUDGED),
        ("timm:vit_small_patch16_224", "supervised", ANTIALIASED),
    ],
)
def test_own_files_resize_positions_by_method_then_by_network(name, method, rule) -> None:
    own = Checkpoint(name, None, "1" * 64, method=method)
    assert format_of(own, get_spec(name)).positions == rule


def test_a_network_with_fewer_blocks_than_asked_returns_all_of_them() -> None:
    images = torch.zeros(1, 3, 64, 64)
    for name in ("tiny-vit", "tiny-timm-vit"):
        backbone = get_spec(name, TINY).build(BuildOptions(img_size=64)).eval()
        assert len(backbone(images, num_last_blocks=4).patch_tokens) == 2


@pytest.mark.filterwarnings("ignore:Converting a tensor:torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.trace. is:FutureWarning")
def test_nudged_positions_can_be_traced() -> None:
    def resized(images: Tensor) -> Tensor:
        return resize_positions(torch.ones(1, 16, 2), tuple(images.shape[-2:]), NUDGED)

    assert torch.jit.trace(resized, torch.zeros(6, 5))(torch.zeros(6, 5)).shape == (1, 30, 2)


def test_a_network_of_one_size_is_told_what_to_declare() -> None:
    spec = get_spec("tiny-hiera", TINY)
    fresh = replace_checkpoint(FRESH, backbone=spec.name)
    undeclared = replace(spec, fixed_size=False)
    results = {result.name: result for result in check_backbone(undeclared, fresh)}
    assert "does not run on images of 512 x 512" in results["shapes"].detail
    assert "declare fixed_size=True in its spec" in results["shapes"].detail
    assert all(result.passed for result in check_backbone(spec, fresh))
