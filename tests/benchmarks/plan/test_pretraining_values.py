"""Values that a network cannot do with are refused when a run is planned, without torch."""

import subprocess
import sys

import pytest

from backbones.base.errors import UserError
from backbones.catalog import get_spec
from benchmarks.overrides import apply_overrides
from benchmarks.suites import get_task
from pretrain.catalog import recipes

TASK = get_task("pretrain")


def planned(recipe, *overrides, arch=""):
    config = TASK.check(apply_overrides(recipes()[recipe](), overrides))
    return TASK.fit(config, get_spec(arch or config.backbone))


@pytest.mark.parametrize(
    ("recipe", "overrides", "words"),
    [
        ("mae-nano", ["data.img_size=65"], r"data.img_size: 65 .* a multiple of 8, the backbone's"),
        ("lomar-nano", ["data.img_size=65"], r"data.img_size: 65 .* a multiple of 8"),
        ("simmim-nano", ["data.img_size=65"], r"data.img_size: 65 .* a multiple of "),
        ("mocov3-nano", ["data.img_size=65"], r"data.img_size: 65 .* a multiple of 8"),
        ("mae-nano", ["model.mask_ratio=0.999"], r"model.mask_ratio: 0.999 .* some of 64 patches"),
        ("lomar-nano", ["model.mask_ratio=0.001"], r"model.mask_ratio: 0.001 "),
        ("lomar-nano", ["model.window_size=99"], r"model.window_size: 99 .* at most 8 patches"),
        ("supervised-nano", ["data.num_classes=1"], r"data.num_classes: 1 .* other than 1"),
        ("mae-nano", ["method=dino"], r"--set method: unknown key"),
        ("mae-nano", ["optim.min_lr=1"], r"optim.min_lr: 1.0 .* at most the learning rate"),
    ],
)
def test_it_is_refused_in_one_sentence(recipe, overrides, words):
    with pytest.raises(UserError, match=words) as raised:
        planned(recipe, *overrides)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("recipe", sorted(recipes()))
def test_recipes_go_with_their_backbones(recipe):
    planned(recipe)


def test_no_torch_is_needed_for_it():
    program = (
        "import sys; from pretrain.catalog import recipes; "
        "recipes()['mae-nano']().resolved().refuse_on((8,)); assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
