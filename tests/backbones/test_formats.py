import subprocess
import sys

import pytest
import torch

from backbones.base.errors import PreflightError
from backbones.weights.formats import FORMATS, Imported


def convert(form: str, content: dict, branch: str = "") -> Imported:
    return FORMATS[form].convert(content, branch)


def named(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(float(i)) for i, name in enumerate(names)}


def test_the_layouts_are_known_without_torch() -> None:
    code = "import sys, backbones.weights.formats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("mae", {"student": named("a"), "teacher": named("a"), "epoch": 3}),
        ("dino", {"epoch": 3, "best_acc": 71.0}),
        ("mocov3", {"epoch": 3, "arch": "vit_base"}),
        ("backbench", {"model": named("a")}),
        ("swin", {"epoch": 3}),
    ],
)
def test_a_file_of_another_layout_says_what_it_holds(form: str, content: dict) -> None:
    with pytest.raises(PreflightError, match=r"holds (student|epoch|model).* where this"):
        convert(form, content)


def test_weights_that_are_no_tensors_are_named() -> None:
    with pytest.raises(PreflightError, match="hold step, not tensors"):
        convert("mae", {"model": {**named("norm.weight"), "step": 3}})
    with pytest.raises(PreflightError, match="hold nothing"):
        convert("mae", {"model": {}})


@pytest.mark.parametrize("form", ["dino", "esvit"])
def test_the_teacher_is_the_default(form: str) -> None:
    content = {
        "student": {"module.backbone.norm.weight": torch.tensor(1.0)},
        "teacher": {"backbone.norm.weight": torch.tensor(2.0)},
        "epoch": 3,
    }
    assert convert(form, content).state["norm.weight"] == 2
    assert convert(form, content, "teacher").state["norm.weight"] == 2
    assert convert(form, content, "student").state["norm.weight"] == 1


@pytest.mark.parametrize("form", ["dino", "esvit", "mocov3"])
def test_asking_a_bare_backbone_for_a_branch_is_refused(form: str) -> None:
    with pytest.raises(PreflightError, match="leave branch= out"):
        convert(form, named("norm.weight"), "teacher")


def test_a_missing_branch_is_named() -> None:
    with pytest.raises(PreflightError, match="'student'"):
        convert("dino", {"teacher": named("backbone.norm.weight"), "epoch": 1}, "student")


def test_torchvision_networks_wrapped_twice_are_unwrapped() -> None:
    content = {"student": named("module.backbone.backbone.conv1.weight", "module.head.mlp.0.bias")}
    imported = convert("esvit", content, "student")
    assert set(imported.state) == {"conv1.weight", "head.mlp.0.bias"}


def test_names_that_collide_behind_their_prefixes_are_refused() -> None:
    with pytest.raises(PreflightError, match="one name behind their prefixes"):
        convert("mae", {"model": named("module.norm.weight", "norm.weight")})


def test_compiled_and_parallel_prefixes_go() -> None:
    content = {"model": named("_orig_mod.module.norm.weight")}
    assert set(convert("mae", content).state) == {"norm.weight"}


def test_patch_merging_moves_to_the_next_stage_once() -> None:
    official = named("layers.0.downsample.norm.weight", "layers.2.downsample.norm.weight")
    moved = convert("swin", {"model": official}).state
    assert moved == {
        "layers.1.downsample.norm.weight": torch.tensor(0.0),
        "layers.3.downsample.norm.weight": torch.tensor(1.0),
    }
    assert convert("swin", {"model": moved}).state == moved


def test_the_shared_table_of_beit_goes_to_every_block() -> None:
    content = named(
        "blocks.0.norm1.weight",
        "blocks.11.norm1.weight",
        "rel_pos_bias.relative_position_bias_table",
        "rel_pos_bias.relative_position_index",
    )
    state = convert("beit", {"model": content}).state
    assert state["blocks.11.attn.relative_position_bias_table"] == 2
    assert state["blocks.0.attn.relative_position_bias_table"] == 2
    assert not any(name.startswith("rel_pos_bias") for name in state)


def test_moco_keeps_one_encoder_and_accounts_for_the_other() -> None:
    content = {
        "state_dict": named(
            "module.base_encoder.norm.weight", "module.momentum_encoder.norm.weight"
        )
    }
    student, teacher = convert("mocov3", content), convert("mocov3", content, "teacher")
    assert student.state["norm.weight"] == 0
    assert teacher.state["norm.weight"] == 1
    assert ("momentum_encoder.*", "the other network (branch=teacher)") in student.drops
    assert ("base_encoder.*", "the other network (branch=student)") in teacher.drops


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "backbench"])
def test_nothing_inside_blocks_is_droppable(form: str) -> None:
    from fnmatch import fnmatchcase

    drops = convert(form, named("norm.weight")).drops
    inside = [
        "blocks.0.attn.q_bias",
        "blocks.3.ls1.gamma",
        "blocks.0.attn.rpe_k.lookup_table_weight",
    ]
    inside += ["layers.1.blocks.0.attn.relative_position_bias_table", "reg_token", "blocks.0.w12"]
    assert [n for n in inside for pattern, _ in drops if fnmatchcase(n, pattern)] == []
