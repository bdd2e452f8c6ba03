"""Files that people have, one network each: what opens holds it whole, what does not says why."""

import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones.base.errors import PreflightError, UserError
from backbones.catalog import spec_for
from backbones.spec import BuildOptions
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint

State = dict[str, Tensor]
VIT = "timm:test_vit"  # patch 16, 100 patches and a class token, 64 channels, 2 heads


def random_state(name: str) -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = timm.create_model(name, num_classes=0).state_dict()
        return {
            name: torch.rand_like(value) + 0.5 if value.is_floating_point() else value
            for name, value in state.items()
        }


NET = random_state("test_vit")
TABLE, STEM = "pos_embed", "patch_embed.proj.weight"
HEAD = {"head.weight": torch.ones(3, 64), "head.bias": torch.zeros(3)}


def under(prefix: str, state: State = NET) -> State:
    return {prefix + name: value for name, value in state.items()}


def changed(name: str, value: Tensor) -> State:
    return {**NET, name: value}


def loaded(path: Path, options: str = f"?arch={VIT}") -> tuple[State, str]:
    checkpoint = open_checkpoint(f"ckpt:{path}{options}")
    backbone, coverage = build_backbone(spec_for(checkpoint), checkpoint, BuildOptions(), seed=0)
    assert coverage.loaded == coverage.total
    state = {k.removeprefix("net."): v for k, v in backbone.state_dict().items()}
    return state, coverage.sentence()


def whole(content: Any) -> nn.Module:
    module: nn.Module = timm.create_model("test_vit", num_classes=0)
    module.load_state_dict(content)
    return module


OPENED: dict[str, Any] = {
    "a classifier": {**NET, **HEAD},
    "NaN in the classifier": {**NET, "head.weight": torch.full((3, 64), float("nan"))},
    "an OrderedDict": OrderedDict(NET),
    "parameters": {name: nn.Parameter(value) for name, value in NET.items()},
    "a module": whole(NET),
    "float64": {name: value.double() for name, value in NET.items()},
    "DDP twice": under("module.module."),
    "compiled in Lightning": {"state_dict": under("model._orig_mod."), "hyper_parameters": {}},
    "model.backbone. of Lightning": {"state_dict": under("model.backbone.")},
    "composer": {"state": {"model": under("model."), "optimizers": {"AdamW": {"state": {}}}}},
    "fairseq": {"cfg": {"model": {"num_heads": 2}}, "model": under("encoder.")},
    "ZeRO-2": {"module": NET, "param_shapes": [{"a": torch.Size([1])}], "ds_version": "0.14"},
    "EMA of DDP": {"model": {k: v + 1 for k, v in NET.items()}, "ema": under("module.")},
    "peft, merged": under("base_model.model."),
    "an image tower": {"model": {**under("image_encoder.vit."), "text.emb": torch.ones(2)}},
    "a normalising layer": {**under("model.1."), "model.0.mean": torch.zeros(1, 3, 1, 1)},
    "a projector": {**under("encoder."), "projector.0.weight": torch.ones(2, 64)},
    "a linear patch embedding": changed(STEM, NET[STEM].flatten(1)),
}


@pytest.mark.parametrize("content", OPENED.values(), ids=OPENED)
def test_the_network_in_it_is_taken_whole(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "file.pth")
    state, _ = loaded(tmp_path / "file.pth")
    for name, value in NET.items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(tmp_path: Path, dtype: torch.dtype) -> None:
    half = {k: v if "norm" in k else v.to(dtype) for k, v in NET.items()}
    torch.save(half, tmp_path / "file.pth")
    state, _ = loaded(tmp_path / "file.pth")
    assert all(torch.equal(state[name], value.float()) for name, value in half.items())


@pytest.mark.parametrize(
    "name", ["w eiß?1&2.pth", "epoch=9-step=100.ckpt", "a,b.pth", "x%20y.pth", "no_suffix"]
)
def test_a_path_may_hold_any_letter(tmp_path: Path, name: str) -> None:
    torch.save(NET, tmp_path / name)
    assert torch.equal(loaded(tmp_path / name)[0][STEM], NET[STEM])


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("test_convnext", "state_dict.model."),
        ("eva02_tiny_patch14_224", "visual."),
        ("test_resnet", "module."),
        ("test_efficientnet", "net."),
        ("xcit_nano_12_p16_224", "module."),
    ],
)
def test_networks_of_timm_are_found_under_prefixes(tmp_path: Path, name: str, prefix: str) -> None:
    state = random_state(name)
    torch.save(under(prefix, state), tmp_path / "file.pth")
    found, sentence = loaded(tmp_path / "file.pth", f"?arch=timm:{name}")
    assert f"taken from '{prefix}'" in sentence
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_a_table_of_another_size_is_taken_over(tmp_path: Path) -> None:
    table = torch.rand(1, 17, 64)
    torch.save(changed(TABLE, table), tmp_path / "file.pth")
    assert torch.equal(loaded(tmp_path / "file.pth")[0][TABLE], table)


def test_files_older_than_steps_of_batch_norm_open(tmp_path: Path) -> None:
    state = random_state("test_resnet")
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "file.pth")
    checkpoint = open_checkpoint(f"ckpt:{tmp_path / 'file.pth'}?arch=timm:test_resnet")
    _, coverage = build_backbone(spec_for(checkpoint), checkpoint, BuildOptions(), seed=0)
    assert {name.rpartition(".")[2] for name in coverage.fresh} == {"num_batches_tracked"}


REFUSED: dict[str, tuple[Any, str]] = {
    "a list": ([NET], "holds a list, not a dictionary of weights"),
    "a table that is not square": (changed(TABLE, torch.rand(1, 99, 64)), r"\(1, 99, 64\)"),
    "a table without the class token": (changed(TABLE, NET[TABLE][:, 1:]), r"\(1, 100, 64\)"),
    "one channel": (changed(STEM, NET[STEM][:, :1]), r"\(64, 1, 16, 16\)"),
    "four channels": (changed(STEM, torch.rand(64, 4, 16, 16)), r"\(64, 4, 16, 16\)"),
    "patches of 8": (changed(STEM, torch.rand(64, 3, 8, 8)), r"\(64, 3, 8, 8\)"),
    "more blocks": (
        {**NET, **{k.replace("blocks.5.", "blocks.6."): v for k, v in NET.items()}},
        "blocks.6.",
    ),
    "norms of queries": (
        {**NET, "blocks.0.attn.q_norm.weight": torch.ones(32)},
        "holds blocks.0.attn.q_norm.weight that it has no place for",
    ),
    "blocks of an encoder with two halves": (
        {k.replace("blocks.", "enc_blocks."): v for k, v in NET.items()},
        "lacks blocks.0.norm1.weight",
    ),
    "pruning": (
        {k.replace("fc1.weight", "fc1.weight_orig"): v for k, v in NET.items()},
        "holds blocks.0.mlp.fc1.weight_orig: parametrised weights",
    ),
    "patches of 8 stated": ({"model": NET, "args": {"patch_size": 8}}, "8 pixels a patch side"),
    "settings only": ({"epoch": 3}, "holds epoch and no weights"),
}


@pytest.mark.parametrize(("content", "said"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, content: Any, said: str) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(UserError, match=said) as caught:
        loaded(tmp_path / "file.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second"),
    [("encoder.module.", "target_encoder.module."), ("model.encoder.", "model.teacher.")],
)
def test_two_encoders_are_named_and_asked_for(tmp_path: Path, first: str, second: str) -> None:
    torch.save({**under(first), **under(second)}, tmp_path / "file.pth")
    with pytest.raises(UserError, match=f"'{first}'.*'{second}'.*choose one"):
        loaded(tmp_path / "file.pth")


def test_a_stray_tensor_of_convnext_is_a_sentence(tmp_path: Path) -> None:
    state = {**random_state("test_convnext"), "extra.weight": torch.zeros(3)}
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(PreflightError, match=r"holds extra.weight that it has no place for"):
        loaded(tmp_path / "file.pth", "?arch=timm:test_convnext")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: path.write_bytes(b""), "truncated or no weights file"),
        (lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)), "zip archive without weights"),
        (lambda path: path.write_text("<!DOCTYPE html>"), "truncated or no weights file"),
    ],
)
def test_a_file_without_weights_is_a_sentence(
    tmp_path: Path, write: Callable[[Path], Any], said: str
) -> None:
    write(tmp_path / "file.pth")
    with pytest.raises(PreflightError, match=said):
        loaded(tmp_path / "file.pth")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_args": {"act_layer": "quick_gelu"}}, "model_args act_layer='quick_gelu'"),
        ({"global_pool": "max"}, "global_pool 'max', which is not supported"),
    ],
)
def test_networks_that_their_name_does_not_tell_are_refused(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    base = {"architecture": "test_vit", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    save_file(NET, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**base, "model_args": {"img_size": 160}}))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        assert open_checkpoint(f"ckpt:{path}").backbone == "timm:test_vit"
    (tmp_path / "config.json").write_text(json.dumps({**base, **settings}))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(PreflightError, match=said):
            open_checkpoint(f"ckpt:{path}")
