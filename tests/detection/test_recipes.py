"""Recipes are plain, valid, sourced, and every value in them is read by something."""

import ast
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from backbones.base.errors import UserError
from backbones.catalog import zoo
from backbones.spec import BackboneSpec
from detection import recipes
from detection.config import (
    DetectionConfig,
    DetectionDataConfig,
    DetectionOptimConfig,
    DetectionScheduleConfig,
    EvaluationConfig,
    ModelConfig,
    at_depth,
    frozen_layers,
)
from detection.recipes import RECIPES, default_recipe

SECTIONS = (
    DetectionDataConfig,
    ModelConfig,
    DetectionOptimConfig,
    DetectionScheduleConfig,
    EvaluationConfig,
)
PLAIN = (int, float, str, bool)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_valid_as_it_is(name: str) -> None:
    config = RECIPES[name]()
    assert config == RECIPES[name]()
    assert config.resolved().evaluation.short_side > 0


def test_protocols_tell_recipes_apart() -> None:
    protocols = [make().protocol for make in RECIPES.values()]
    assert len(set(protocols)) == len(protocols)


def test_named_recipes_say_where_they_come_from() -> None:
    words = ("Source", "paper", "score", "Return ``", "reproduce", "The recipe that it changes: ``")
    for name, make in RECIPES.items():
        assert any(word in (make.__doc__ or "") for word in words), name


def _is_plain(kind: Any) -> bool:
    arguments = [a for a in get_args(kind) if a is not Ellipsis]
    if get_origin(kind) is Literal:
        return all(isinstance(choice, str) for choice in arguments)
    return kind in PLAIN or (get_origin(kind) is tuple and all(map(_is_plain, arguments)))


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_is_plain_and_read(section: type) -> None:
    """A field that nobody reads is a promise that nobody keeps."""
    read = _attributes_read()
    for name, kind in get_type_hints(section).items():
        assert _is_plain(kind), name
        assert name in read, f"{section.__name__}.{name} is read by nothing"


def _attributes_read() -> set[str]:
    """Attribute names that code of the package and of the training loop loads, but no recipe."""
    folder = Path(recipes.__file__).parent
    loop = folder.parent / "backbones" / "training"
    names: set[str] = set()
    for path in [*folder.rglob("*.py"), *loop.rglob("*.py")]:
        if path.name in ("config_checks.py", "recipes.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                names.add(node.attr)
    return names


def test_planning_needs_neither_torch_nor_detectron2() -> None:
    code = (
        "import sys, detection.recipes, detection.schedule\n"
        "assert not {'torch', 'detectron2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_square_follows_the_image_size() -> None:
    config = replace(RECIPES["vitdet-100ep"](), data=DetectionDataConfig(img_size=512)).resolved()
    assert config.padded_square == 512
    assert (config.evaluation.short_side, config.evaluation.max_size) == (512, 512)


@pytest.mark.parametrize(
    ("section", "change", "words"),
    [
        ("data", {"img_size": 100}, "multiple of 32"),
        ("data", {"augmentation": "lsjj"}, "data.augmentation"),
        ("data", {"train_fraction": 0.0}, "train_fraction"),
        ("model", {"freeze": "half"}, "model.freeze"),
        ("model", {"roi_levels": (2, 4)}, "roi_levels"),
        ("model", {"drop_path": (0.1, 0.2)}, "one for every backbone or three by its depth"),
        ("optim", {"base_lr": 0.0}, "base_lr"),
        ("optim", {"reference_batch_size": 0}, "reference_batch_size: 0 is not supported"),
        (
            "optim",
            {"betas": (2.0, 3.0)},
            r"betas: \[2.0, 3.0\] is not supported",
        ),
        ("optim", {"momentum": -1.0}, "momentum: -1.0 is not supported; use .* below 1"),
        ("optim", {"weight_decay": -5.0}, "weight_decay: -5.0 is not supported"),
        ("optim", {"clip_norm": -1.0}, "clip_norm: -1.0 is not supported"),
        ("optim", {"decay_rule": "all"}, "decay_rule"),
        ("schedule", {"batch_size_per_device": 3}, "multiple"),
        ("schedule", {"drops": (0.9, 0.8)}, "in rising order"),
        ("schedule", {"precision": "fp16"}, "precision"),
        ("evaluation", {"max_size": 2048}, r"use a number of at most data.img_size \(1024\)"),
    ],
)
def test_impossible_values_are_named(section: str, change: dict[str, Any], words: str) -> None:
    config = RECIPES["vitdet-100ep"]()
    wrong = replace(config, **{section: replace(getattr(config, section), **change)})
    with pytest.raises(UserError, match=words):
        wrong.resolved()


def test_values_by_depth() -> None:
    assert [at_depth((0.1, 0.4, 0.5), n) for n in (6, 12, 24, 32)] == [0.1, 0.1, 0.4, 0.5]
    assert at_depth((0.2,), 24) == 0.2


def test_freezing_counts_layers() -> None:
    assert [frozen_layers(f, 12) for f in ("none", "stem", "first-3", "all")] == [0, 1, 4, 14]
    assert frozen_layers("first-99", 12) == 14


def test_vitdet_agrees_with_upstream() -> None:
    """Read from detectron2's configs."""
    config = RECIPES["vitdet-100ep"]()
    assert config.data.scale_range == (0.1, 2.0)
    assert config.optim.layer_decay == (0.7, 0.8, 0.9)
    assert config.model.drop_path == (0.1, 0.4, 0.5)
    assert (config.optim.base_lr, config.optim.weight_decay) == (1e-4, 0.1)
    assert config.schedule.batch_size == 64


def test_default_recipes() -> None:
    specs = zoo()
    assert default_recipe(specs["vit-b16"], mini=False).startswith("vitdet")
    assert default_recipe(specs["swin-t"], mini=False) == "swin-1x"
    assert default_recipe(specs["resnet50"], mini=False) == "r50-fpn-1x"
    assert {default_recipe(spec, mini=True) for spec in specs.values()} == {"mini"}
    assert all(default_recipe(spec, mini=False) in RECIPES for spec in specs.values())


def test_variants_change_what_they_say() -> None:
    base = RECIPES["vitdet-12ep"]()
    frozen = RECIPES["vitdet-12ep-frozen"]()
    assert frozen.model.freeze == "all"
    assert frozen.schedule == base.schedule
    assert RECIPES["vitdet-100ep-1pct"]().data.train_fraction == 0.01
    assert RECIPES["vitdet-100ep-cascade"]().model.detector == "cascade-mask-rcnn"


def test_sections_are_frozen_dataclasses() -> None:
    for section in fields(DetectionConfig):
        value = getattr(RECIPES["mini"](), section.name)
        assert section.name == "protocol" or is_dataclass(value)
    spec: BackboneSpec = zoo()["vit-b16"]
    with pytest.raises(AttributeError):
        RECIPES["mini"]().protocol = spec.name  # type: ignore[misc]
