"""What files of weights say about their use, as plans ask it."""

import pytest
import torch

from backbones.base.errors import PreflightError
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.weights.examine import verify
from backbones.weights.source import open_checkpoint


def _norm_behind(state):
    return {k.replace("norm.", "fc_norm.", k.startswith("norm.")): v for k, v in state.items()}


@pytest.mark.parametrize(
    ("name", "size", "form", "behind", "table"),
    [
        ("vit-ti16", 224, "dino", False, 14),
        ("vit-ti16", 384, "timm", False, 24),
        ("vit-ti16", 224, "mae", True, 14),
        ("timm:vit_tiny_patch16_224", 384, "timm", False, 24),
        ("timm:vit_tiny_patch16_224", 224, "timm", True, 14),
        # timm resizes this table when the network takes it.
        ("timm:eva02_tiny_patch14_224", 336, "timm", False, 24),
        ("swin-nano", 224, "swin", False, 0),
    ],
)
def test_table_and_norm_are_those_of_the_file(tmp_path, name, size, form, behind, table):
    state = get_spec(name).build(BuildOptions(img_size=size)).state_dict()
    filled = {
        key.removeprefix("net."): value + 0.01 if value.is_floating_point() else value
        for key, value in state.items()
    }
    path = tmp_path / "weights.pth"
    torch.save(_norm_behind(filled) if behind else filled, path)
    use = verify(open_checkpoint(f"ckpt:{path}?arch={name}&format={form}"))
    assert (use.table, use.norm_behind_pooling) == (table, behind)


def _vit(tmp_path, change=lambda state: None, around="model"):
    torch.manual_seed(0)
    state = get_spec("vit-ti16").build(BuildOptions(img_size=224)).state_dict()
    state = {name: value + 0.01 for name, value in state.items()}
    change(state)
    path = tmp_path / "weights.pth"
    torch.save({around: state, "model_ema": state} if around == "model" else {around: state}, path)
    return f"ckpt:{path}?arch=vit-ti16&format=timm"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused_when_planned(tmp_path, value):
    def spoil(state):
        state["blocks.3.mlp.fc1.weight"][0, 0] = value

    source = _vit(tmp_path, spoil)
    with pytest.raises(PreflightError, match=r"NaN or infinity in blocks\.3\.mlp\.fc1\.weight"):
        verify(open_checkpoint(source))


def test_zeros_only_are_refused_when_planned(tmp_path):
    with pytest.raises(PreflightError, match="zeros only"):
        verify(open_checkpoint(_vit(tmp_path, lambda state: [v.zero_() for v in state.values()])))


def test_a_tensor_that_is_left_out_may_hold_anything(tmp_path):
    def spoil(state):
        state["head.weight"] = torch.full((5, 192), float("nan"))

    verify(open_checkpoint(_vit(tmp_path, spoil)))


def test_a_plan_says_how_the_weights_are_read(tmp_path):
    said = "; ".join(verify(open_checkpoint(_vit(tmp_path))).said)
    assert "the ema copy" in said
    assert "images normalised with mean 0.5/0.5/0.5 and std 0.5/0.5/0.5" in said
    assert "positions bicubic, antialiased" in said


def test_a_plan_says_that_a_table_is_resized(tmp_path):
    state = get_spec("timm:eva02_tiny_patch14_224").build(BuildOptions(img_size=336)).state_dict()
    path = tmp_path / "weights.pth"
    torch.save({k.removeprefix("net."): v + 0.01 for k, v in state.items()}, path)
    use = verify(open_checkpoint(f"ckpt:{path}?arch=timm:eva02_tiny_patch14_224&format=timm"))
    assert "position tables resized for the network: pos_embed" in use.said
