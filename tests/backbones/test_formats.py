import subprocess
import sys
from fnmatch import fnmatchcase

import pytest
import torch

from backbones.catalog import get_spec
from backbones.features import Backbone
from backbones.spec import BuildOptions
from backbones.vit.positions_rule import PositionRule
from backbones.weights.fit import to_timm
from backbones.weights.formats import FORMATS
from backbones.weights.layout import BESIDE
from backbones.weights.steps.table import STEPS


def convert(form: str, content: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return to_timm(content, FORMATS[form], bare())


def bare() -> Backbone:
    with torch.device("meta"):
        return get_spec("vit-nano").build(BuildOptions())


def named(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(float(i)) for i, name in enumerate(names)}


def test_the_layouts_are_known_without_torch() -> None:
    code = "import sys, backbones.weights.formats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_every_format_is_a_whole_table(form: object) -> None:
    assert form.project
    assert form.link.startswith(("https://", "docs/"))
    assert set(form.steps) <= set(STEPS)
    assert isinstance(form.positions, PositionRule)
    for mean_or_std in form.norm or ():
        assert len(mean_or_std) == 3
        assert all(0 <= value <= 1 for value in mean_or_std)


def test_patch_merging_moves_to_the_next_stage_once() -> None:
    official = named("layers.0.downsample.norm.weight", "layers.2.downsample.norm.weight")
    moved = convert("swin", official)
    assert moved == {
        "layers.1.downsample.norm.weight": torch.tensor(0.0),
        "layers.3.downsample.norm.weight": torch.tensor(1.0),
    }
    assert convert("swin", moved) == moved


def test_the_shared_table_of_beit_goes_to_every_block() -> None:
    content = named(
        "blocks.0.norm1.weight",
        "blocks.11.norm1.weight",
        "rel_pos_bias.relative_position_bias_table",
        "rel_pos_bias.relative_position_index",
    )
    state = convert("beit", content)
    assert state["blocks.11.attn.relative_position_bias_table"] == 2
    assert state["blocks.0.attn.relative_position_bias_table"] == 2
    assert not any(name.startswith("rel_pos_bias") for name in state)


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_nothing_inside_blocks_is_droppable(form: object) -> None:
    inside = [
        "blocks.0.attn.q_bias",
        "blocks.3.ls1.gamma",
        "blocks.0.attn.rpe_k.lookup_table_weight",
    ]
    inside += ["layers.1.blocks.0.attn.relative_position_bias_table", "reg_token", "blocks.0.w12"]
    drops = (*form.drops, *BESIDE)
    assert [n for n in inside for pattern, _ in drops if fnmatchcase(n, pattern)] == []
