"""Weights written in official layouts: names and shapes as published, and readable again."""

import json

import pytest
import torch

from backbones.base.errors import PreflightError, UserError
from backbones.catalog import get_spec
from backbones.checkpoint import Checkpoint
from backbones.spec import BuildOptions
from backbones.weights.files import save_weights
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint
from pretrain.catalog import get_recipe
from pretrain.initial import load_initial, whole_checkpoint
from pretrain.method import get_method
from pretrain.objective_file import export, save_objective, to_layout
from pretrain.train import build_objective
from tests.pretrain.conftest import with_


def flat(content, *path):
    for key in path:
        content = content[key]
    return {name: list(tensor.shape) for name, tensor in content.items()}


@pytest.mark.parametrize(
    ("name", "layout", "keymap", "path"),
    [
        ("vit-b16", "mae", "mae_vit_base_patch16_pretrain_encoder_only", ("model",)),
        ("vit-s16", "dino", "dino_vit_small_patch16_backbone", ()),
        ("swin-t", "esvit", "esvit_swin_tiny_w7_backbone", ()),
        ("swin-t-w14", "esvit", "esvit_swin_tiny_w14_backbone", ()),
    ],
)
def test_names_and_shapes_are_the_published_ones(name, layout, keymap, path, keymaps):
    with torch.device("meta"):
        backbone = get_spec(name).build(BuildOptions())
    expected = json.loads((keymaps / f"{keymap}.json").read_text())["state_dict"]
    assert flat(to_layout(backbone, layout), *path) == expected


@pytest.mark.parametrize(
    ("name", "layouts"),
    [
        ("vit-nano", ("mae", "dino", "mocov3", "timm")),
        ("swin-nano", ("esvit", "simmim", "swin", "timm")),
        ("resnet-nano", ("timm",)),
    ],
)
def test_what_is_written_loads_again(name, layouts, tmp_path):
    spec = get_spec(name)
    source = Checkpoint(name, None, "random", source=name)
    options = BuildOptions(img_size=64)
    backbone, _ = build_backbone(spec, source, options, seed=1)
    record = Checkpoint(name, None, "", method="toy", img_size=64)
    weights = save_weights(backbone, tmp_path / "weights.safetensors", record).path
    for layout in layouts:
        out = tmp_path / f"{layout}.pth"
        assert "tensors in the layout of" in export(weights, layout, out)
        checkpoint = open_checkpoint(f"ckpt:{out}?arch={name}&format={layout}")
        loaded, _ = build_backbone(spec, checkpoint, options, seed=2)
        for key, value in backbone.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value), key


def test_layouts_of_other_networks_are_refused(tmp_path):
    backbone = get_spec("swin-nano").build(BuildOptions(img_size=64))
    with pytest.raises(UserError, match=r"for plain ViTs, not for SwinBackbone"):
        to_layout(backbone, "mae")
    with pytest.raises(UserError, match=r'Unknown layout "mea". Did you mean "mae"'):
        to_layout(backbone, "mea")
    with pytest.raises(PreflightError, match=r"There is no file"):
        export(tmp_path / "no.safetensors", "mae", tmp_path / "out.pth")


def test_weights_of_a_run_are_not_written_over(tmp_path):
    backbone = get_spec("vit-nano").build(BuildOptions(img_size=64))
    record = Checkpoint("vit-nano", None, "", method="toy", img_size=64)
    weights = save_weights(backbone, tmp_path / "weights.safetensors", record).path
    content = weights.read_bytes()
    with pytest.raises(UserError, match="holds weights of a run"):
        export(weights, "mae", weights)
    assert weights.read_bytes() == content


def nano(name):
    return with_(get_recipe(name), "data", img_size=32)


@pytest.mark.parametrize("recipe", ["mae-nano", "lomar-nano"])
def test_a_whole_objective_goes_out_and_comes_back(recipe, tmp_path):
    config = nano(recipe)
    method, spec = get_method(config.method), get_spec(config.backbone)
    objective = build_objective(method, spec, config, seed=1)
    source = tmp_path / "objective.safetensors"
    made_by = {"method": method.name, "backbone": spec.name}
    save_objective(objective, source, config, made_by)
    out = tmp_path / "out.pth"
    export(source, method.name, out)
    other = build_objective(method, spec, config, seed=2)
    first = whole_checkpoint(out, spec.name)
    assert "official layout" in load_initial(other, method.name, spec, first, 32)
    for key, value in objective.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
    with pytest.raises(UserError, match=rf"only be written in the layout of {method.name}"):
        export(source, "timm", out)
