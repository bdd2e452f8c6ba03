"""Files in other projects' layouts open with arch= only, and every tensor arrives where it belongs.

Layouts are rebuilt from a network with random weights by renaming, the other way round than the
formats do and written down here independently of them.
"""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from backbones.catalog import spec_for
from backbones.features import Backbone
from backbones.spec import BuildOptions
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint

State = dict[str, Tensor]


def network(arch: str, seed: int = 0) -> State:
    """Random tensors under timm's names."""
    spec = spec_for(open_checkpoint(f"random:{arch}"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = spec.build(BuildOptions()).state_dict()
        return {
            name.removeprefix("net."): torch.randn_like(value)
            if value.is_floating_point()
            else value
            for name, value in state.items()
        }


def under(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def renamed(state: State, *rules: tuple[str, str]) -> State:
    out = {}
    for name, value in state.items():
        for pattern, to in rules:
            name = re.sub(pattern, to, name)
        out[name] = value
    return out


def unmerged(state: State) -> State:
    """Patch merging at the end of a stage, as Microsoft has it."""
    shift = lambda m: f"layers.{int(m[1]) - 1}.downsample"  # noqa: E731
    return {re.sub(r"^layers\.(\d+)\.downsample", shift, k): v for k, v in state.items()}


def unfolded(state: State) -> State:
    """Channels of patch merging as nn.Unfold gathers them, by pushing numbers through both."""
    out = dict(state)
    for name, value in state.items():
        if "downsample" in name:
            channels = value.shape[-1] // 4
            image = torch.arange(4.0 * channels).view(1, channels, 2, 2)
            order = torch.nn.functional.unfold(image, 2)[0, :, 0].long()
            parts = [image[0, :, row, column] for column in (0, 1) for row in (0, 1)]
            place = {int(number): i for i, number in enumerate(torch.cat(parts))}
            out[name] = value[..., [place[int(number)] for number in order]]
    return out


def head(width: int) -> State:
    return {"0.weight": torch.randn(3, width), "last_layer.weight_g": torch.ones(3, 1)}


def dino_like(form: str) -> Callable[[State, State], object]:
    def make(state: State, other: State) -> object:
        token = {"masked_embed": torch.zeros(1, 96)} if form == "ibot" else {}
        return {
            "student": under(
                "module.", {**under("backbone.", {**other, **token}), "head.x": torch.ones(2)}
            ),
            "teacher": {**under("backbone.", state), "head.x": torch.ones(2)},
            "epoch": 3,
        }

    return make


LAYOUTS: dict[str, tuple[str, str, Callable[[State, State], object]]] = {
    "ibot": ("vit-nano", "ibot", dino_like("ibot")),
    "mocov2": (
        "resnet-nano",
        "mocov2",
        lambda s, o: {
            "arch": "x",
            "state_dict": {
                **under("module.encoder_q.", {**s, "fc.0.weight": torch.ones(2, 2)}),
                **under("module.encoder_k.", o),
                "module.queue": torch.ones(2, 2),
            },
        },
    ),
    "simsiam": (
        "resnet-nano",
        "simsiam",
        lambda s, _: {
            "state_dict": {
                **under("module.encoder.", s),
                "module.predictor.0.weight": torch.ones(2),
            }
        },
    ),
    "swav": (
        "resnet-nano",
        "swav",
        lambda s, _: {
            **under("module.", s),
            "module.projection_head.0.weight": torch.ones(2),
            "module.prototypes.weight": torch.ones(2),
        },
    ),
    "vissl": (
        "resnet-nano",
        "vissl",
        lambda s, _: {
            "classy_state_dict": {
                "base_model": {"model": {"trunk": under("_feature_blocks.", s), "heads": {}}}
            }
        },
    ),
    "moby": (
        "swin-nano",
        "moby",
        lambda s, o: {
            "model": {
                **under("encoder.", unmerged(s)),
                **under("encoder_k.", unmerged(o)),
                "projector.linear.weight": torch.ones(2),
                "queue1": torch.ones(2),
            }
        },
    ),
    "solo-learn": (
        "vit-nano",
        "solo-learn",
        lambda s, o: {
            "state_dict": {
                **under("backbone.", s),
                **under("momentum_backbone.", o),
                "classifier.weight": torch.ones(2),
            }
        },
    ),
    "openmmlab swin": (
        "swin-nano",
        "openmmlab-swin",
        lambda s, _: {
            "meta": {},
            "state_dict": under(
                "backbone.",
                renamed(
                    unmerged(unfolded(s)),
                    (r"^layers\.", "stages."),
                    (r"\.attn\.", ".attn.w_msa."),
                    (r"\.mlp\.fc1", ".ffn.layers.0.0"),
                    (r"\.mlp\.fc2", ".ffn.layers.1"),
                    (r"^patch_embed\.proj", "patch_embed.projection"),
                    (r"^norm\.", "norm3."),
                ),
            ),
        },
    ),
    "swin in a detector": (
        "swin-nano",
        "swin",
        lambda s, _: {
            "state_dict": {
                **under("backbone.", unmerged(s)),
                "backbone.norm0.weight": torch.ones(32),
                "neck.conv.weight": torch.ones(2),
            }
        },
    ),
    "mocov3": (
        "vit-nano",
        "mocov3",
        lambda s, o: {
            "state_dict": {
                **under("module.base_encoder.", s),
                **under("module.momentum_encoder.", o),
                "module.predictor.0.weight": torch.ones(2),
            }
        },
    ),
    "mocov3, base encoder only": (
        "vit-nano",
        "mocov3",
        lambda s, _: {"state_dict": under("module.base_encoder.", s)},
    ),
    "swin v2": (
        "timm:swinv2_tiny_window8_256",
        "swinv2",
        lambda s, _: {"model": unmerged(s)},
    ),
    "convnext": (
        "timm:test_convnext",
        "convnext",
        lambda s, _: {
            "model": {
                **renamed(
                    s,
                    (r"^stem\.", "downsample_layers.0."),
                    (r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1."),
                    (r"^stages\.(\d+)\.blocks\.", r"stages.\1."),
                    ("conv_dw", "dwconv"),
                    (r"mlp\.fc", "pwconv"),
                    (r"^head\.norm\.", "norm."),
                ),
                "head.weight": torch.ones(3, 2),
            }
        },
    ),
    "openclip": (
        "timm:test_vit3",
        "openclip-timm",
        lambda s, _: {**under("visual.trunk.", s), "logit_scale": torch.tensor(1.0)},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_opens_with_its_backbone_only(tmp_path: Path, layout: str) -> None:
    arch, form, write = LAYOUTS[layout]
    state = network(arch)
    path = tmp_path / "file.pth"
    torch.save(write(state, network(arch, seed=1)), path)
    checkpoint = open_checkpoint(f"ckpt:{path}?arch={arch}")
    assert checkpoint.format == form
    backbone, coverage = build_backbone(spec_for(checkpoint), checkpoint, BuildOptions(), seed=0)
    assert coverage.loaded == coverage.total
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, state[name.removeprefix("net.")]), name


def test_blocks_in_chunks_and_registers_of_dinov2(tmp_path: Path) -> None:
    arch = "timm:vit_small_patch14_reg4_dinov2"
    state = network(arch)
    chunks = lambda m: f"blocks.{int(m[1]) // 3}.{m[1]}."  # noqa: E731
    official = {re.sub(r"^blocks\.(\d+)\.", chunks, k): v for k, v in state.items()}
    official["register_tokens"] = official.pop("reg_token")
    placed = torch.randn(1, 1, 384)
    official["cls_token"] = official["cls_token"] - placed
    official["pos_embed"] = torch.cat([placed, torch.randn(1, 37 * 37, 384)], dim=1)
    official["mask_token"] = torch.zeros(1, 384)
    path = tmp_path / "file.pth"
    torch.save(
        {"teacher": {**under("backbone.", official), "dino_head.mlp.0.weight": placed}}, path
    )
    checkpoint = open_checkpoint(f"ckpt:{path}?arch={arch}")
    assert checkpoint.format == "dinov2-registers"
    backbone, _ = build_backbone(spec_for(checkpoint), checkpoint, BuildOptions(), seed=0)
    loaded = {name.removeprefix("net."): value for name, value in backbone.state_dict().items()}
    assert torch.equal(loaded["pos_embed"], official["pos_embed"][:, 1:])
    torch.testing.assert_close(loaded["cls_token"], state["cls_token"], rtol=0, atol=1e-6)
    assert torch.equal(loaded["blocks.11.attn.qkv.weight"], state["blocks.11.attn.qkv.weight"])


TORCHVISION: dict[str, tuple[str, Callable[[torch.nn.Module, Tensor], Tensor]]] = {
    "swin_t": (
        "swin-t",
        lambda net, x: net.avgpool(net.permute(net.norm(net.features(x)))).flatten(1),
    ),
    "convnext_tiny": (
        "timm:convnext_tiny",
        lambda net, x: net.classifier[:2](net.avgpool(net.features(x))),
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_networks_give_its_own_features(tmp_path: Path, name: str) -> None:
    arch, features = TORCHVISION[name]
    net = getattr(torchvision.models, name)().eval()
    path = tmp_path / f"{name}.pth"
    torch.save(net.state_dict(), path)
    checkpoint = open_checkpoint(f"ckpt:{path}?arch={arch}")
    assert checkpoint.format.startswith("torchvision-")
    backbone: Backbone
    backbone, _ = build_backbone(spec_for(checkpoint), checkpoint, BuildOptions(), seed=0)
    images = torch.randn(1, 3, 224, 224)
    expected = features(net, images)
    torch.testing.assert_close(backbone.eval()(images).pooled, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_detectron2s_pickle_is_read_without_running_code(tmp_path: Path, protocol: int) -> None:
    state = network("timm:resnet18")
    theirs = renamed(
        state,
        (r"^conv1\.", "stem.conv1."),
        (r"^bn1\.", "stem.conv1.norm."),
        (r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}."),
        (r"\.bn(\d)\.", r".conv\1.norm."),
        (r"\.downsample\.1\.", ".shortcut.norm."),
        (r"\.downsample\.0\.", ".shortcut."),
    )
    path = tmp_path / "model_final.pkl"
    arrays = {f"backbone.bottom_up.{name}": value.numpy() for name, value in theirs.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "detectron2"}, protocol=protocol))
    checkpoint = open_checkpoint(f"ckpt:{path}?arch=timm:resnet18")
    assert checkpoint.format == "detectron2"
    backbone, _ = build_backbone(spec_for(checkpoint), checkpoint, BuildOptions(), seed=0)
    loaded = {name.removeprefix("net."): value for name, value in backbone.state_dict().items()}
    assert torch.equal(loaded["conv1.weight"], state["conv1.weight"].flip(1))
    assert torch.equal(loaded["layer2.0.bn1.weight"], state["layer2.0.bn1.weight"])
    assert spec_for(checkpoint).std == (1 / 255,) * 3
