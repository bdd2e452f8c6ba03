"""Every value of every recipe says what it may be, and any other is refused in the same words."""

import json
import pkgutil
import re
from dataclasses import replace
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from msgspec import Meta

from backbones.base.errors import UserError
from backbones.base.sections import as_plain, leaves, restore
from backbones.base.values import allowed
from benchmarks import tasks
from benchmarks.labelled.config import FeatureKind
from benchmarks.labelled.features.features import _kinds
from benchmarks.overrides import apply_overrides, settable
from benchmarks.suites import get_measurement

TASKS = sorted(info.name for info in pkgutil.iter_modules(tasks.__path__))
RECIPES = [(task, recipe) for task in TASKS for recipe in get_measurement(task).recipes()]
WORDING = re.compile(r"[a-z0-9_.]+: .+ is not supported; use .+\.( Did you mean .+\?)?")


def recipe_of(task: str, recipe: str) -> Any:
    return get_measurement(task).recipes()[recipe]()


def parts(hint: Any) -> tuple[Any, list[Meta]]:
    if get_origin(hint) is not Annotated:
        return hint, []
    base, *marks = get_args(hint)
    return base, [mark for mark in marks if isinstance(mark, Meta)]


def wrong(hint: Any) -> list[Any]:
    """Return values that a type does not allow: its bounds, other types, NaN and lengths."""
    base, metas = parts(hint)
    if get_origin(base) is Literal:
        return ["no such choice", 7]
    if get_origin(base) is tuple:
        return wrong_lists(get_args(base), metas)
    if base is str:
        return ["two words", ["a list"]]
    if base is bool:
        return ["perhaps", 7]
    found = ["text", [1], *([0.5] if base is int else [float("nan"), float("inf")])]
    # Native code, memory and floats give way long before these.
    found += [10**20, 10**400] if base is int else [1e300, -1e300, 1e-300]
    for meta in metas:
        found += [bound for bound in (meta.gt, meta.lt) if bound is not None]
        found += [meta.ge - 1] if meta.ge is not None else []
        found += [meta.le + 1] if meta.le is not None else []
        found += [meta.multiple_of + 1] if meta.multiple_of else []
    return found


def wrong_lists(items: tuple[Any, ...], metas: list[Meta]) -> list[Any]:
    open_ended = Ellipsis in items
    found = [3, *([value] * (1 if open_ended else len(items)) for value in wrong(items[0]))]
    if not open_ended:
        found += [[], [0.5] * (len(items) + 1)]
    return found + ([[]] if any(meta.min_length for meta in metas) else [])


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize(("task", "recipe"), RECIPES)
def test_every_key_refuses_what_it_may_not_be(task, recipe):
    config = recipe_of(task, recipe)
    for key, leaf in settable(config).items():
        for value in wrong(leaf.hint):
            with pytest.raises(UserError) as caught:
                apply_overrides(config, [f"{key}={text_of(value)}"])
            said = str(caught.value)
            assert WORDING.fullmatch(said), said
            assert said.startswith(f"{key}: ")
            assert allowed(leaf.hint) in said


@pytest.mark.parametrize("task", TASKS)
def test_a_value_that_code_sets_is_refused_like_one_that_is_typed(task):
    config = recipe_of(task, next(iter(get_measurement(task).recipes())))
    for key, leaf in settable(config).items():
        value = wrong(leaf.hint)[0]
        section, _, name = key.rpartition(".")
        part = getattr(config, section) if section else config
        broken = replace(part, **{name: tuple(value) if isinstance(value, list) else value})
        broken = replace(config, **{section: broken}) if section else broken
        with pytest.raises(UserError) as caught:
            get_measurement(task).check(broken)
        assert str(caught.value).startswith(f"{key}: ")


@pytest.mark.parametrize("task", TASKS)
def test_all_problems_are_named_in_one_go(task):
    config = recipe_of(task, next(iter(get_measurement(task).recipes())))
    keys = list(settable(config))[:5]
    texts = [f"{key}={text_of(wrong(settable(config)[key].hint)[0])}" for key in keys]
    with pytest.raises(UserError) as caught:
        apply_overrides(config, texts)
    assert [key for key in keys if f"{key}: " in str(caught.value)] == keys


@pytest.mark.parametrize(("task", "recipe"), RECIPES)
def test_a_recipe_comes_back_from_json_as_it_was(task, recipe):
    config = get_measurement(task).check(recipe_of(task, recipe))
    again = restore(recipe_of(task, recipe), json.loads(json.dumps(as_plain(config))))
    assert again == config
    assert repr(again) == repr(config)  # 100 stays an integer, which makes another run id


@pytest.mark.parametrize(("task", "recipe"), RECIPES)
def test_every_key_takes_its_own_value_from_text_without_a_mark(task, recipe):
    config = recipe_of(task, recipe)
    texts = [f"{key}={text_of(leaf.value)}" for key, leaf in settable(config).items()]
    assert apply_overrides(config, texts).protocol == config.protocol


def states_its_choice(hint: Any) -> bool:
    base, metas = parts(hint)
    if get_origin(base) in (tuple, UnionType):
        return all(states_its_choice(item) for item in get_args(base) if item is not Ellipsis)
    return base is not str or any(meta.pattern and meta.description for meta in metas)


def has_bounds(hint: Any) -> bool:
    """Return whether each integer has a least value; all of them count or measure something."""
    base, metas = parts(hint)
    if get_origin(base) is tuple:
        return all(has_bounds(item) for item in get_args(base) if item is not Ellipsis)
    return base is not int or any(meta.ge is not None or meta.gt is not None for meta in metas)


@pytest.mark.parametrize(("task", "recipe"), RECIPES)
def test_no_text_is_free_and_no_integer_unbounded(task, recipe):
    for leaf in leaves(recipe_of(task, recipe)):
        assert states_its_choice(leaf.hint), leaf.name
        assert has_bounds(leaf.hint), leaf.name


@pytest.mark.parametrize(
    ("task", "recipe", "override", "sentence"),
    [
        (
            "coco", "mini", "optim.optimizer=adam",
            'optim.optimizer: "adam" is not supported; use "adamw" or "sgd". '
            'Did you mean "adamw"?',
        ),
        (
            "knn", "knn", "data.interpolation=cubic",
            'data.interpolation: "cubic" is not supported; use "bicubic" or "bilinear". '
            'Did you mean "bicubic"?',
        ),
        (
            "linear", "linear", "grid.norms=[bach]",
            'grid.norms: ["bach"] is not supported; use a list of at least 1 value, each "none" '
            'or "batch". Did you mean ["batch"]?',
        ),
        (
            "pretrain", "mae-nano", "model.sampling=blok",
            'model.sampling: "blok" is not supported; use "random", "block" or "grid". '
            'Did you mean "block"?',
        ),
        (
            "coco", "mini", "schedule.batch_size=5",
            "schedule.batch_size: 5 is not supported; use a multiple of "
            "schedule.batch_size_per_device (4).",
        ),
    ],
)  # fmt: skip
def test_the_words(task, recipe, override, sentence):
    with pytest.raises(UserError) as caught:
        get_measurement(task).check(apply_overrides(recipe_of(task, recipe), [override]))
    assert str(caught.value) == sentence


def test_the_kinds_of_features_are_those_that_exist():
    names = ["pooled", *(f"{part}.{n}" for part in ("cls", "mean", "map") for n in (1, 2))]
    assert set(get_args(FeatureKind)) == set(_kinds(names, ()))
