from dataclasses import replace
from pathlib import Path

import pytest
import torch
from msgspec import structs
from safetensors.torch import save_file

from backbones.base.errors import PreflightError
from backbones.base.files import sha256_file
from backbones.catalog import get_spec
from backbones.checkpoint import Checkpoint
from backbones.spec import BuildOptions
from backbones.weights.files import save_weights
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint

SPEC = get_spec("vit-nano")
OPTIONS = BuildOptions(img_size=64)


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoint:
    fresh = open_checkpoint("vit-nano")
    backbone, _ = build_backbone(SPEC, fresh, OPTIONS, seed=0)
    return save_weights(backbone, tmp_path / "w.safetensors", fresh)


def state(saved: Checkpoint) -> dict[str, torch.Tensor]:
    from backbones.weights.files import read_safetensors

    return read_safetensors(saved.path)


def rewritten(saved: Checkpoint, tensors: dict[str, torch.Tensor]) -> Checkpoint:
    save_file(tensors, saved.path)
    return structs.replace(saved, sha256=sha256_file(saved.path))


def refusal(checkpoint: Checkpoint, options: BuildOptions = OPTIONS) -> str:
    with pytest.raises(PreflightError) as caught:
        build_backbone(SPEC, checkpoint, options, seed=0)
    assert "\n" not in str(caught.value)
    assert str(checkpoint.path) in str(caught.value)
    return str(caught.value)


def test_fresh_weights_follow_the_seed_alone() -> None:
    fresh = open_checkpoint("vit-nano")
    torch.manual_seed(1)
    one, coverage = build_backbone(SPEC, fresh, OPTIONS, seed=5)
    following = torch.rand(1)
    torch.manual_seed(2)
    two, _ = build_backbone(SPEC, fresh, OPTIONS, seed=5)
    other, _ = build_backbone(SPEC, fresh, OPTIONS, seed=6)
    key = "blocks.0.attn.qkv.weight"
    assert torch.equal(one.state_dict()[key], two.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])
    torch.manual_seed(1)
    assert torch.equal(following, torch.rand(1))
    assert coverage.loaded == 0
    assert len(coverage.fresh) == coverage.total
    assert coverage.sentence() == f"vit-nano: all {coverage.total} tensors fresh."


def test_declared_fresh_parameters_are_counted(saved: Checkpoint) -> None:
    _, coverage = build_backbone(
        SPEC, saved, BuildOptions(img_size=64, window_size=4, relative_positions=True), seed=0
    )
    assert coverage.loaded == coverage.total - 8
    assert all("rel_pos_" in name for name in coverage.fresh)
    assert "8 tensors (declared so by the spec) fresh" in coverage.sentence()


def test_fresh_parameters_beside_loaded_ones_follow_the_seed(saved: Checkpoint) -> None:
    spec = replace(SPEC, fresh_params=("norm.*", "blocks.3.*"))
    partial = {k: v for k, v in state(saved).items() if not k.startswith(("norm.", "blocks.3."))}
    checkpoint = rewritten(saved, partial)
    built = [build_backbone(spec, checkpoint, OPTIONS, seed)[0].state_dict() for seed in (1, 1, 2)]
    key = "blocks.3.mlp.fc1.weight"
    assert torch.equal(built[0][key], built[1][key])
    assert not torch.equal(built[0][key], built[2][key])
    assert torch.equal(built[0]["cls_token"], built[2]["cls_token"])


def test_missing_and_unexpected_names_are_refused_with_the_first_few(saved: Checkpoint) -> None:
    tensors = state(saved)
    for block in range(4):
        del tensors[f"blocks.{block}.attn.qkv.bias"]
    tensors["blocks.0.ls1.gamma"] = torch.ones(96)
    sentence = refusal(rewritten(saved, tensors))
    assert "lacks blocks.0.attn.qkv.bias" in sentence
    assert "and 1 more" in sentence
    assert "holds blocks.0.ls1.gamma that it has no place for" in sentence


def test_wrong_shapes_name_the_first(saved: Checkpoint) -> None:
    tensors = state(saved)
    tensors["blocks.0.mlp.fc1.weight"] = torch.zeros(96, 96)
    tensors["blocks.1.mlp.fc1.weight"] = torch.zeros(96, 96)
    sentence = refusal(rewritten(saved, tensors))
    assert "blocks.0.mlp.fc1.weight is (96, 96) in the file and (384, 96) there" in sentence
    assert "and 1 more" in sentence


def test_patch_kernels_are_never_resampled(saved: Checkpoint) -> None:
    tensors = state(saved)
    tensors["patch_embed.proj.weight"] = torch.zeros(96, 3, 16, 16)
    assert "(96, 3, 16, 16) in the file and (96, 3, 8, 8)" in refusal(rewritten(saved, tensors))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_with_nan_are_refused(saved: Checkpoint, bad: float) -> None:
    tensors = state(saved)
    tensors["norm.weight"][3] = bad
    assert "NaN or infinity in norm.weight" in refusal(rewritten(saved, tensors))


def test_a_refused_file_leaves_no_half_loaded_network(saved: Checkpoint) -> None:
    from backbones.weights.loading import load_into

    backbone, _ = build_backbone(SPEC, open_checkpoint("vit-nano"), OPTIONS, seed=9)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    tensors = state(saved)
    del tensors["norm.weight"]
    with pytest.raises(PreflightError):
        load_into(backbone, SPEC, rewritten(saved, tensors))
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())


def test_a_file_that_changed_since_it_was_named_is_refused(saved: Checkpoint) -> None:
    tensors = state(saved)
    tensors["norm.weight"] += 1
    rewritten(saved, tensors)
    assert "changed" in refusal(saved)


def test_half_precision_files_fill_float_networks(saved: Checkpoint) -> None:
    halved = {k: v.half() for k, v in state(saved).items()}
    backbone, _ = build_backbone(SPEC, rewritten(saved, halved), OPTIONS, seed=0)
    assert all(p.dtype == torch.float32 for p in backbone.parameters())


def test_a_position_table_of_another_grid_is_taken_over(saved: Checkpoint) -> None:
    backbone, coverage = build_backbone(SPEC, saved, BuildOptions(img_size=128), seed=0)
    assert coverage.loaded == coverage.total
    stored = state(saved)["pos_embed"]
    assert torch.equal(backbone.state_dict()["pos_embed"], stored)
    assert backbone(torch.zeros(1, 3, 128, 72)).maps[0].shape[-2:] == (16, 9)


def test_swin_tables_of_another_window_are_resized_and_reported(tmp_path: Path) -> None:
    spec, fresh = get_spec("swin-nano"), open_checkpoint("swin-nano")
    backbone, _ = build_backbone(spec, fresh, BuildOptions(img_size=128), seed=0)
    saved = save_weights(backbone, tmp_path / "w.safetensors", fresh)
    _, coverage = build_backbone(spec, saved, BuildOptions(img_size=64), seed=0)
    (name,) = coverage.resized
    assert name == "net.layers.3.blocks.0.attn.relative_position_bias_table"
    assert "1 position table" in coverage.sentence()
