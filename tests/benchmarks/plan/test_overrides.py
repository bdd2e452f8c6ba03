from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from backbones.base.errors import UserError
from backbones.base.sections import (
    CHOSEN,
    HOW_IT_IS_DONE,
    OUTSIDE_IDENTITY,
    as_plain,
    restore,
    settings_of,
)
from benchmarks.overrides import apply_overrides, overrides_outside_identity


@dataclass(frozen=True)
class Optim:
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    drops: tuple[int, ...] = (1, 2)
    clip: float | None = None
    nesterov: bool = False
    name: str = "adamw"
    rate: Annotated[float, Meta(gt=0)] = 0.5
    kind: Literal["adamw", "sgd"] = "adamw"
    kinds: tuple[Literal["adamw", "sgd"], ...] = ("adamw",)


@dataclass(frozen=True)
class Config:
    protocol: str = "mini/v1"
    optim: Optim = field(default_factory=Optim)
    epochs: int = 3


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optim.lr=1e-4", 1e-4),
        ("optim.lr=1", 1.0),
        ("optim.betas=[0.8,0.9]", (0.8, 0.9)),
        ("optim.drops=[3]", (3,)),
        ("optim.drops=[]", ()),
        ("optim.clip=2", 2.0),
        ("optim.nesterov=true", True),
        ("optim.nesterov=on", True),
        ("optim.nesterov=1", True),
        ("optim.name=sgd", "sgd"),
        ("optim.name=a=b", "a=b"),
        ("optim.name=off", "off"),
        ("optim.name=none", "none"),
        ("optim.name='12'", "12"),
        ("optim.name=12", "12"),
        ("optim.name=", ""),
        ("optim.kind=sgd", "sgd"),
        ("optim.kinds=[sgd,adamw]", ("sgd", "adamw")),
        ("optim.betas=[1e-1,9e-1]", (0.1, 0.9)),
    ],
)
def test_a_value_takes_the_type_of_its_field(override, value):
    config = apply_overrides(Config(), [override])
    found = getattr(config.optim, override.partition("=")[0].partition(".")[2])
    assert found == value
    assert type(found) is type(value)
    hash(config)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.lr=fast", 'optim.lr: "fast" is not supported; use a finite number.'),
        ("optim.lr=[1]", "optim.lr: [1] is not supported; use a finite number."),
        ("optim.lr=true", "optim.lr: true is not supported; use a finite number."),
        ("optim.drops=[1.5]", "use a list, each a whole number."),
        ("optim.drops=3", "optim.drops: 3 is not supported; use a list, each a whole number."),
        ("optim.betas=[0.9]", "use a list of 2 values, each a finite number."),
        ("optim.nesterov=7x", 'optim.nesterov: "7x" is not supported; use true or false.'),
        ("optim.nesterov={a: 1}", "use true or false."),
        ("optim.nesterov=2024-99-99", "use true or false."),
        ("epochs=3.0", "epochs: 3.0 is not supported; use a whole number."),
        ("epochs=1e3", "epochs: 1000.0 is not supported; use a whole number."),
        ("epochs=true", "epochs: true is not supported; use a whole number."),
        ("optim.nesterov=2", "optim.nesterov: 2 is not supported; use true or false."),
        ("epochs=3.5", "epochs: 3.5 is not supported; use a whole number."),
        ("epochs=null", "epochs: null is not supported; use a whole number."),
        ("epochs=", "epochs: null is not supported; use a whole number."),
        ("optim.lr=[", 'optim.lr: "[" is not supported; use a finite number.'),
        ("optim.lr=nan", "optim.lr: NaN is not supported; use a finite number."),
        ("optim.lr=-inf", "optim.lr: -Infinity is not supported; use a finite number."),
        ("optim.clip=inf", "optim.clip: Infinity is not supported; use a finite number or null."),
        ("optim.clip=.inf", "optim.clip: Infinity is not supported; use a finite number or null."),
        ("optim.betas=[0.9,nan]", "use a list of 2 values, each a finite number."),
        ("optim.rate=-1e-3", "optim.rate: -0.001 is not supported; use a number above 0."),
        ("optim.kind=adamm", 'use "adamw" or "sgd". Did you mean "adamw"?'),
        ("optim.kinds=[sgd,adam]", 'each "adamw" or "sgd". Did you mean ["sgd", "adamw"]?'),
    ],
)
def test_a_wrong_value_is_refused_in_one_wording(override, words):
    with pytest.raises(UserError, match=r"^[a-z.]+: .* is not supported; use ") as caught:
        apply_overrides(Config(), [override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("lr=1", 'Did you mean "optim.lr"'),
        ("optim.epoch=1", "Did you mean"),
        ("optim=1", "unknown key"),
        ("protocol=x", "unknown key"),
        ("optim.lr", "KEY=VALUE"),
        ("optim", "for example --set optim.base_lr=1e-4"),
    ],
)
def test_a_wrong_name_is_one_sentence(override, words):
    with pytest.raises(UserError, match=r"^--set ") as caught:
        apply_overrides(Config(), [override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_wrong_overrides_are_named_together():
    with pytest.raises(UserError) as caught:
        apply_overrides(Config(), ["optim.lr=fast", "epochs=5", "epoch=1", "optim.betas=[1]"])
    said = str(caught.value)
    named = [key for key in ("optim.lr:", "epochs:", "epoch:", "optim.betas:") if key in said]
    assert named == ["optim.lr:", "epoch:", "optim.betas:"]


def test_the_mark_depends_on_the_changed_values_alone():
    first = apply_overrides(Config(), ["optim.lr=1", "epochs=5"])
    swapped = apply_overrides(Config(), ["epochs=5", "epochs=5", "optim.lr=1.0"])
    other = apply_overrides(Config(), ["epochs=6", "optim.lr=1"])
    assert first.protocol.startswith("mini/v1+custom:")
    assert first.protocol == swapped.protocol != other.protocol
    assert apply_overrides(Config(), ["epochs=3"]) == Config()


def test_a_config_survives_json():
    import json

    config = apply_overrides(Config(), ["optim.betas=[0.8,0.9]", "optim.clip=1"])
    assert restore(Config(), json.loads(json.dumps(as_plain(config)))) == config


@dataclass(frozen=True)
class Watched:
    every: int = field(default=0, metadata=OUTSIDE_IDENTITY)
    size: int = 8


@dataclass(frozen=True)
class WatchedConfig:
    protocol: str = "mini/v1"
    watched: Watched = field(default_factory=Watched)


def test_a_value_outside_the_identity_can_be_set_and_is_nowhere_else():
    config = apply_overrides(WatchedConfig(), ["watched.every=3"])
    assert config == WatchedConfig(watched=Watched(every=3))
    both = apply_overrides(WatchedConfig(), ["watched.every=3", "watched.size=4"])
    assert both.protocol == apply_overrides(WatchedConfig(), ["watched.size=4"]).protocol
    assert as_plain(config) == {"protocol": "mini/v1", "watched": {"size": 8}}
    assert restore(config, as_plain(WatchedConfig())) == config
    given = ["watched.size=4", "watched.every=3", "watched.every=0"]
    assert overrides_outside_identity(WatchedConfig(), given) == ("watched.every=3",)


@dataclass(frozen=True)
class Runtime:
    compile: bool = field(default=False, metadata=HOW_IT_IS_DONE)


@dataclass(frozen=True)
class RuntimeRecipe:
    protocol: str = "mini/v1"
    runtime: Runtime = field(default_factory=Runtime)


def test_how_the_work_is_done_leaves_the_identity_at_its_default():
    config = apply_overrides(RuntimeRecipe(), ["runtime.compile=true"])
    assert config == RuntimeRecipe(runtime=Runtime(compile=True))
    assert as_plain(config) == as_plain(RuntimeRecipe())
    assert as_plain(RuntimeRecipe()) == {"protocol": "mini/v1", "runtime": {"compile": False}}
    assert settings_of(config) == settings_of(RuntimeRecipe())
    given = ["runtime.compile=true", "runtime.compile=false"]
    assert overrides_outside_identity(RuntimeRecipe(), given) == ("runtime.compile=true",)
    # A request of before, whose identity has the value.
    former = {"protocol": "mini/v1", "runtime": {"compile": True}}
    assert restore(RuntimeRecipe(), former) == config


def test_fields_that_changed_since_are_refused():
    plain = as_plain(Config())
    del plain["optim"]["clip"]
    with pytest.raises(ValueError, match="Optim changed: clip"):
        restore(Config(), plain)


@pytest.mark.parametrize("key", ["epochs", "optim.lr", "optim.clip", "optim.rate"])
@pytest.mark.parametrize(
    "text",
    ["0x10", "0b11", "0o17", "1_000", "1:30", "\u0661\u0662", "\uff11\uff12", "1e", "--1", "'1_0'"],
)
def test_numbers_are_decimal_digits(key, text):
    with pytest.raises(UserError, match=f"^{key}: .* is not supported; use "):
        apply_overrides(Config(), [f"{key}={text}"])


def test_a_number_with_leading_zeros_is_decimal():
    assert apply_overrides(Config(), ["epochs=010"]).epochs == 10


def test_what_planning_chooses_is_not_typed():
    @dataclass(frozen=True)
    class Planned:
        protocol: str = "p/v1"
        attention: str = field(default="zoo", metadata=CHOSEN)

    with pytest.raises(UserError, match="--set attention: unknown key"):
        apply_overrides(Planned(), ["attention=own"])
