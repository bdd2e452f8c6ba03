"""Files in exactly the official layouts load tensor for tensor, nothing left over."""

import argparse
import json
import pathlib
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.base.errors import PreflightError
from backbones.catalog import get_spec
from backbones.features import Backbone
from backbones.spec import BuildOptions
from backbones.weights.loading import build_backbone, load_into
from backbones.weights.source import open_checkpoint


@dataclass(frozen=True)
class Layout:
    keymap: str
    arch: str
    form: str
    wrapper: str = "model"  # "" for a bare state dict
    prefix: str = ""  # of the backbone's keys in the file
    branch: str = ""
    trainer: bool = True  # carries optimizer, Namespace and numpy scalars


QUICK = [
    Layout("mae_vit_base_patch16_pretrain_full", "vit-b16", "mae"),
    Layout("mae_vit_base_patch16_finetune_avgpool", "vit-b16", "mae"),
    Layout("lomar_vit_base_patch16_pretrain", "lomar-vit-b16", "lomar"),
    Layout("dino_vit_small_patch16_backbone", "vit-s16", "dino", wrapper="", trainer=False),
    Layout("dino_vit_small_patch16_teacher", "vit-s16", "dino", "teacher", "backbone."),
    Layout(
        "dino_vit_small_patch16_student",
        "vit-s16",
        "dino",
        "student",
        "module.backbone.",
        "student",
    ),
    Layout(
        "mocov3_vit_base_pretrain_full", "vit-b16", "mocov3", "state_dict", "module.base_encoder."
    ),
    Layout(
        "mocov3_vit_base_pretrain_full",
        "vit-b16",
        "mocov3",
        "state_dict",
        "module.momentum_encoder.",
        "teacher",
    ),
    Layout("esvit_swin_tiny_w7_backbone", "swin-t-eps6", "esvit", wrapper="", trainer=False),
    Layout("esvit_swin_tiny_w7_teacher", "swin-t-eps6", "esvit", "teacher"),
    Layout("esvit_swin_tiny_w7_student", "swin-t-eps6", "esvit", "student", "module.", "student"),
    Layout("esvit_swin_tiny_w14_backbone", "swin-t-w14", "esvit", wrapper="", trainer=False),
    Layout("beit_base_patch16_pretrain", "beit-b16", "beit"),
    Layout("beit_base_patch16_finetune", "beit-b16", "beit", wrapper="module"),
    Layout("simmim_vit_base_pretrain", "beit-b16", "simmim", prefix="encoder."),
]
SLOW = [
    Layout("simmim_vit_base_finetune", "beit-b16", "simmim"),
    Layout(
        "esvit_swin_tiny_w7_student_view_only",
        "swin-t-eps6",
        "esvit",
        "student",
        "module.",
        "student",
    ),
    Layout("mocov3_vit_base_backbone", "vit-b16", "mocov3", trainer=False),
    Layout("lomar_vit_base_patch16_finetune_avgpool", "lomar-vit-b16", "lomar"),
    Layout("mae_vit_base_patch16_linprobe", "vit-b16", "mae"),
    Layout("mae_vit_base_patch16_finetune_cls", "vit-b16", "mae"),
    Layout("mae_vit_base_patch16_pretrain_encoder_only", "vit_b16", "mae", trainer=False),
    Layout("mae_vit_large_patch16_pretrain_full", "vit-l16", "mae"),
    Layout("esvit_swin_base_w7_backbone", "swin-b-eps6", "esvit", wrapper="", trainer=False),
    Layout("simmim_swin_base_w6_192_pretrain", "swin-b", "simmim", prefix="encoder."),
    Layout("simmim_swin_base_w7_224_finetune", "swin-b", "simmim"),
]
IDS = {"ids": lambda layout: f"{layout.keymap}-{layout.branch or 'default'}"}


@cache
def built(arch: str) -> Backbone:
    """One network an architecture; loading overwrites all of it."""
    checkpoint = open_checkpoint(arch)
    return build_backbone(get_spec(checkpoint.backbone), checkpoint, BuildOptions(), seed=0)[0]


def keymap(folder: Path, name: str) -> dict[str, list[int]]:
    return json.loads((folder / f"{name}.json").read_text())["state_dict"]


def values(shapes: dict[str, list[int]]) -> dict[str, float]:
    """A number of its own for every tensor, exact in float32."""
    return {name: 1 + i / 1024 for i, name in enumerate(shapes)}


def tensors(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Constant tensors that take no room on disk."""
    numbers = values(shapes)
    return {name: torch.tensor(numbers[name]).expand(shape) for name, shape in shapes.items()}


def trainer_state() -> dict[str, object]:
    """What the official trainers save beside the weights."""
    return {
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}},
            "param_groups": [
                {"lr": np.float64(1e-3), "weight_decay": np.float64(0.04), "params": [0]}
            ],
        },
        "epoch": 300,
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(
            lr=5e-4, output_dir=pathlib.PosixPath("/job/out"), opt_betas=None
        ),
        "dino_loss": {"center": torch.zeros(1, 4)},
        "max_accuracy": 0.0,
    }


def written(folder: Path, keymaps: Path, layout: Layout) -> Path:
    state = tensors(keymap(keymaps, layout.keymap))
    content = {layout.wrapper: state} if layout.wrapper else state
    if layout.trainer:
        content |= trainer_state()
    if layout.wrapper in ("teacher", "student"):  # the other network must not be touched
        other = {"teacher": "student", "student": "teacher"}[layout.wrapper]
        content[other] = {"module.backbone.cls_token": torch.full((1,), torch.nan)}
    path = folder / "checkpoint.pth"
    torch.save(content, path)
    return path


def load(path: Path, layout: Layout):
    branch = f"&branch={layout.branch}" if layout.branch else ""
    checkpoint = open_checkpoint(f"ckpt:{path}?arch={layout.arch}&format={layout.form}{branch}")
    # A fine-tuned file moves the norm behind the pooling, so that its network is not used again.
    fresh = built.__wrapped__ if "finetune" in layout.keymap else built
    backbone = fresh(layout.arch)
    return backbone, load_into(backbone, get_spec(checkpoint.backbone), checkpoint)


def source_name(own: str, layout: Layout, shapes: dict[str, list[int]]) -> str:
    """The file's name for a tensor of the backbone, written down independently of the loader."""
    name = own.removeprefix("net.")
    parts = name.split(".")
    if "downsample" in parts:
        name = ".".join(["layers", str(int(parts[1]) - 1), *parts[2:]])
    if parts[0] == "bias_tables":
        name = f"blocks.{parts[1]}.attn.relative_position_bias_table"
        if layout.prefix + name not in shapes:
            name = "rel_pos_bias.relative_position_bias_table"
    return layout.prefix + name


def check(folder: Path, keymaps: Path, layout: Layout) -> None:
    shapes = keymap(keymaps, layout.keymap)
    numbers = values(shapes)
    backbone, coverage = load(written(folder, keymaps, layout), layout)

    fresh = {name.removeprefix("net.") for name in coverage.fresh}
    assert not fresh
    pooled_behind = any(name.endswith("fc_norm.weight") for name in shapes)
    assert any("fc_norm.weight" in name for name in backbone.state_dict()) == pooled_behind
    used = set()
    for own, tensor in backbone.state_dict().items():
        if own in coverage.fresh:
            continue
        name = source_name(own, layout, shapes)
        torch.testing.assert_close(
            tensor,
            torch.full_like(tensor, numbers[name]),
            rtol=1e-6,
            atol=0,
            msg=f"{own} <- {name}",
        )
        used.add(name)
    assert coverage.loaded == coverage.total
    buffers = {n for n in shapes if n.endswith(("relative_position_index", "attn_mask"))}
    kept_by_pretraining = ("decoder", "mask_token", "encoder_pred", "head", "lm_head")
    for name in set(shapes) - used - buffers:
        plain = name.removeprefix("module.").removeprefix(layout.prefix)
        plain = plain.removeprefix("backbone.")
        dead = plain == "pos_embed" and layout.form == "lomar"
        other = plain.startswith(("predictor.", "momentum_encoder.", "base_encoder."))
        assert dead or other or plain.startswith(kept_by_pretraining), name


@pytest.mark.parametrize("layout", QUICK, **IDS)
def test_every_tensor_arrives_under_its_name(tmp_path: Path, keymaps: Path, layout: Layout) -> None:
    check(tmp_path, keymaps, layout)


@pytest.mark.slow
@pytest.mark.parametrize("layout", SLOW, **IDS)
def test_every_tensor_of_the_large_ones_arrives(
    tmp_path: Path, keymaps: Path, layout: Layout
) -> None:
    check(tmp_path, keymaps, layout)


def test_esvit_names_map_to_timm_as_measured(tmp_path: Path, keymaps: Path) -> None:
    expected = json.loads((keymaps / "esvit_swin_tiny_w7_to_timm_1x.json").read_text())["map"]
    shapes = keymap(keymaps, "esvit_swin_tiny_w7_backbone")
    layout = Layout("esvit_swin_tiny_w7_backbone", "swin-t-eps6", "esvit", "", trainer=False)
    backbone, coverage = load(written(tmp_path, keymaps, layout), layout)
    own = {float(t.flatten()[0]): n.removeprefix("net.") for n, t in backbone.state_dict().items()}
    found = {name: own.get(number) for name, number in values(shapes).items()}
    assert found == expected
    assert {n.removeprefix("net.") for n in coverage.dropped} == {
        name for name, target in expected.items() if target is None
    }


def test_files_written_with_numpy_1_load(tmp_path: Path, keymaps: Path) -> None:
    layout = next(x for x in QUICK if x.keymap == "dino_vit_small_patch16_teacher")
    path = written(tmp_path, keymaps, layout)
    old = tmp_path / "numpy1.pth"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w") as target:
        for item in source.infolist():
            content = source.read(item)
            if item.filename.endswith("data.pkl"):
                assert b"cnumpy._core.multiarray\nscalar" in content
                content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
            target.writestr(item.filename, content)
    _, coverage = load(old, layout)
    assert coverage.loaded == coverage.total


def test_simmim_files_load_with_their_settings_skipped(tmp_path: Path, keymaps: Path) -> None:
    yacs = pytest.importorskip("yacs.config")
    layout = next(x for x in QUICK if x.keymap == "simmim_vit_base_pretrain")
    state = tensors(keymap(keymaps, layout.keymap))
    path = tmp_path / "ckpt_epoch_799.pth"
    torch.save({"model": state, "config": yacs.CfgNode({"A": 1})}, path)
    _, coverage = load(path, layout)
    assert coverage.loaded == coverage.total


def test_window_14_tables_grow_where_detection_needs_them(tmp_path: Path, keymaps: Path) -> None:
    layout = Layout("esvit_swin_tiny_w14_backbone", "swin-t-w14", "esvit", "", trainer=False)
    path = written(tmp_path, keymaps, layout)
    checkpoint = open_checkpoint(f"ckpt:{path}?arch=swin-t-w14&format=esvit")
    spec = get_spec("swin-t-w14")
    backbone, coverage = build_backbone(spec, checkpoint, BuildOptions(img_size=512), seed=0)
    assert len(coverage.resized) == 2
    assert all(".layers.3." in name for name in coverage.resized)
    table = backbone.state_dict()["net.layers.3.blocks.0.attn.relative_position_bias_table"]
    assert table.shape == (27 * 27, 24)
    assert "2 position tables resized" in coverage.sentence()


@pytest.mark.parametrize(
    ("keymap_name", "form", "arch", "complaint"),
    [
        ("lomar_vit_base_patch16_pretrain", "lomar", "vit-b16", "blocks.0.attn.rpe_k"),
        ("beit_base_patch16_finetune", "beit", "vit-b16", "blocks.0.gamma_1"),
        ("mae_vit_base_patch16_pretrain_full", "mae", "vit-s16", r"\(1, 1, 768\).*\(1, 1, 384\)"),
        (
            "mae_vit_base_patch16_pretrain_full",
            "dino",
            "vit-b16",
            "decoder_embed|decoder_pos_embed",
        ),
        ("mae_vit_base_patch16_pretrain_full", "mae", "lomar-vit-b16", "lacks blocks.0.attn.rpe_k"),
        ("dino_vit_small_patch16_backbone", "dino", "vit-s8", r"\(384, 3, 16, 16\)"),
        ("esvit_swin_tiny_w7_backbone", "esvit", "swin-s", "lacks .*layers.2.blocks.6"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    tmp_path: Path, keymaps: Path, keymap_name: str, form: str, arch: str, complaint: str
) -> None:
    layout = Layout(keymap_name, arch, form, trainer=False)
    path = written(tmp_path, keymaps, layout)
    with pytest.raises(PreflightError, match=complaint) as caught:
        load(path, layout)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_lomar_at_other_sizes_differs_in_the_dead_table_alone(
    tmp_path: Path, keymaps: Path
) -> None:
    shapes = keymap(keymaps, "lomar_vit_base_patch16_pretrain") | {"pos_embed": [1, 577, 768]}
    path = tmp_path / "lomar384.pth"
    torch.save({"model": tensors(shapes)}, path)
    layout = Layout("", "lomar-vit-b16", "lomar")
    _, coverage = load(path, layout)
    assert coverage.loaded == coverage.total
    assert coverage.dropped["pos_embed"] == "stored by LoMaR but never added to anything"


def test_beit_without_relative_bias_fits_the_plain_vit(tmp_path: Path, keymaps: Path) -> None:
    """The file for attention analysis: absolute positions, no bias table, no LayerScale."""
    shapes = {
        name: shape
        for name, shape in keymap(keymaps, "beit_base_patch16_pretrain").items()
        if "gamma_" not in name and "rel_pos" not in name
    }
    shapes["pos_embed"] = [1, 197, 768]
    path = tmp_path / "beit_abs.pth"
    torch.save({"model": tensors(shapes)}, path)
    backbone, coverage = load(path, Layout("", "vit-b16", "beit"))
    assert coverage.loaded == coverage.total
    bias = backbone.state_dict()["blocks.3.attn.qkv.bias"]
    numbers = values(shapes)
    assert bias[:768].unique().tolist() == [pytest.approx(numbers["blocks.3.attn.q_bias"])]
    assert not bias[768:1536].any()
    assert bias[1536:].unique().tolist() == [pytest.approx(numbers["blocks.3.attn.v_bias"])]


def test_moco_v3_small_has_twelve_heads(tmp_path: Path, keymaps: Path) -> None:
    shapes = keymap(keymaps, "dino_vit_small_patch16_backbone")
    path = tmp_path / "vit-s-300ep.pth.tar"
    torch.save(
        {"state_dict": tensors({f"module.base_encoder.{k}": v for k, v in shapes.items()})}, path
    )
    with pytest.raises(PreflightError, match=r"12 heads.*vit-s16-h12"):
        load(path, Layout("", "vit-s16", "mocov3"))
    _, coverage = load(path, Layout("", "vit-s16-h12", "mocov3"))
    assert coverage.loaded == coverage.total
