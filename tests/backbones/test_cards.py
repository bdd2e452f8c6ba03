"""What own weights files say of their use, on their card and in their header."""

import json
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import load_file, save_file

from backbones.base.errors import PreflightError
from backbones.catalog import get_spec, spec_for
from backbones.checkpoint import Checkpoint, read_header, record_path
from backbones.features import Backbone
from backbones.spec import BuildOptions
from backbones.timm_networks.positions import rule_of
from backbones.vit.positions_rule import ANTIALIASED, NUDGED
from backbones.weights.files import save_weights
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint
from backbones.weights.use import WeightsUse
from pretrain.catalog import recipes
from pretrain.method import get_method

HALF = (0.5, 0.5, 0.5)


def _save(folder: Path, name: str = "vit-nano", **facts: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "weights.safetensors"
    card = Checkpoint(backbone=name, path=None, sha256="", method="dino", img_size=64)
    backbone = get_spec(name).build(BuildOptions(img_size=64))
    save_weights(backbone, path, replace(card, **facts))
    return path


def _used(checkpoint: Checkpoint) -> tuple[object, ...]:
    """Return what of a checkpoint is part of a run's identity."""
    use = WeightsUse.of_checkpoint(checkpoint)
    return checkpoint.backbone, checkpoint.sha256, checkpoint.layout, checkpoint.branch, use


def _built(checkpoint: Checkpoint) -> Backbone:
    return build_backbone(spec_for(checkpoint), checkpoint, BuildOptions(img_size=96), seed=0)[0]


@pytest.mark.parametrize("facts", [{}, {"mean": HALF, "std": HALF}, {"method": "mae"}])
def test_a_file_without_its_card_is_the_same_weights(tmp_path: Path, facts: dict) -> None:
    path = _save(tmp_path, **facts)
    with_card = open_checkpoint(f"ckpt:{path}")
    record_path(path).unlink()
    assert _used(open_checkpoint(f"ckpt:{path}")) == _used(with_card)


@pytest.mark.parametrize(
    "options", ["arch=vit-nano", "arch=vit_nano", "format=backbench", "arch=vit-nano&format=auto"]
)
def test_options_that_say_what_the_card_says_change_nothing(tmp_path: Path, options: str) -> None:
    path = _save(tmp_path)
    plain = _used(open_checkpoint(f"ckpt:{path}"))
    assert _used(open_checkpoint(f"ckpt:{path}?{options}")) == plain
    record_path(path).unlink()
    assert _used(open_checkpoint(f"ckpt:{path}?{options}")) == plain


def test_a_stated_normalisation_is_the_only_thing_that_changes(tmp_path: Path) -> None:
    path = _save(tmp_path, method="mae")
    card = open_checkpoint(f"ckpt:{path}")
    stated = open_checkpoint(f"ckpt:{path}?mean=0.5&std=0.5")
    assert replace(stated, mean=None, std=None, source=card.source) == card
    assert stated.layout == "backbench&mean=0.5,0.5,0.5&std=0.5,0.5,0.5"


def test_a_file_of_before_headers_is_read_by_its_names(tmp_path: Path) -> None:
    path = _save(tmp_path)
    record_path(path).unlink()
    save_file(load_file(path), path)
    assert open_checkpoint(f"ckpt:{path}?arch=vit-nano").format == "timm"
    asked = open_checkpoint(f"ckpt:{path}?arch=vit-nano&format=backbench")
    assert (asked.format, asked.layout) == ("backbench", "backbench")


def test_a_header_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    facts = json.dumps({"backbone": "vit-nano", "colour": "red"})
    save_file({"w": torch.ones(1)}, path, metadata={"backbench": facts})
    with pytest.raises(PreflightError, match=r"header says of the weights is not valid.*colour"):
        open_checkpoint(f"ckpt:{path}")


def test_only_own_files_have_a_header(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for content in (b"", b"{}", b"\x02" + b"\x00" * 7 + b"[]", b"\xff" * 64):
        path.write_bytes(content)
        assert read_header(path) is None
    save_file({"w": torch.ones(1)}, path, metadata={"format": "pt"})
    assert read_header(path) is None


def test_a_rule_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path)
    strange = replace(open_checkpoint(f"ckpt:{path}"), positions="spline")
    with pytest.raises(PreflightError, match="positions 'spline' on its card is not a rule"):
        _built(strange)


@pytest.mark.parametrize(
    ("backbone", "rule"), [("timm:test_vit", ANTIALIASED), ("vit-nano", NUDGED)]
)
def test_dinos_positions_follow_one_rule_from_training_to_use(
    tmp_path: Path, backbone: str, rule: object
) -> None:
    config = recipes()["dino-nano"]()
    spec = get_spec(backbone)
    objective = get_method("dino").build(spec, config)
    path = tmp_path / "weights.safetensors"
    card = Checkpoint(backbone=backbone, path=None, sha256="", method="dino", img_size=64)
    trained = objective.backbone
    assert rule_of(getattr(trained, "net", trained)) == rule
    saved = save_weights(trained, path, card)
    checkpoint = open_checkpoint(f"ckpt:{path}")
    # The rule is the default of method and network, so that no identity states it.
    assert (checkpoint.layout, saved.positions != "") == ("backbench", True)
    used = _built(checkpoint)
    assert rule_of(getattr(used, "net", used)) == rule
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(used.eval()(images).pooled, trained.eval()(images).pooled)


def test_imported_weights_keep_their_use_when_saved_again(tmp_path: Path) -> None:
    theirs = tmp_path / "dino.pth"
    state = get_spec("vit-nano").build(BuildOptions(img_size=64)).state_dict()
    torch.save({"teacher": {f"backbone.{k}": v for k, v in state.items()}}, theirs)
    first = open_checkpoint(f"ckpt:{theirs}?arch=vit-nano&format=dino")
    before = _built(first)
    path = tmp_path / "weights.safetensors"
    save_weights(before, path, first)
    again = open_checkpoint(f"ckpt:{path}")
    assert again.origin == "dino"
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(_built(again).eval()(images).pooled, before.eval()(images).pooled)


def test_equal_weights_and_facts_are_equal_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = get_spec("vit-nano").build(BuildOptions(img_size=64))
    card = Checkpoint(backbone="vit-nano", path=None, sha256="", method="dino", mean=HALF, std=HALF)
    saved = {save_weights(backbone, tmp_path / f"{i}.safetensors", card).sha256 for i in range(20)}
    assert len(saved) == 1
