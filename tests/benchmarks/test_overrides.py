from dataclasses import dataclass, field

import pytest

from backbones.base.errors import UserError
from backbones.base.sections import NEUTRAL
from benchmarks.overrides import apply_overrides, as_plain, aside, restore


@dataclass(frozen=True)
class Optim:
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    drops: tuple[int, ...] = (1, 2)
    clip: float | None = None
    nesterov: bool = False
    name: str = "adamw"


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
        ("optim.name=sgd", "sgd"),
        ("optim.name=a=b", "a=b"),
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
        ("optim.lr=fast", "must be float"),
        ("optim.lr=[1]", "must be float"),
        ("optim.drops=[1.5]", "must be"),
        ("optim.drops=3", "must be"),
        ("optim.betas=[0.9]", "takes 2 values, not 1"),
        ("optim.nesterov=7x", "must be bool"),
        ("epochs=3.5", "must be int"),
        ("epochs=null", "must be int"),
        ("optim.lr=[", "must be float"),
        ("lr=1", "Did you mean 'optim.lr'"),
        ("optim.epoch=1", "Did you mean"),
        ("optim=1", "unknown key"),
        ("protocol=x", "unknown key"),
        ("optim.lr", "KEY=VALUE"),
        ("optim", "for example --set optim.base_lr=1e-4"),
        ("optim.lr=nan", "must be a finite number"),
        ("optim.lr=-inf", "must be a finite number"),
        ("optim.clip=inf", "must be a finite number"),
        ("optim.betas=[0.9,nan]", "must be a finite number"),
    ],
)
def test_a_wrong_override_is_one_sentence(override, words):
    with pytest.raises(UserError, match=r"^--set ") as caught:
        apply_overrides(Config(), [override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


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
    every: int = field(default=0, metadata=NEUTRAL)
    size: int = 8


@dataclass(frozen=True)
class WatchedConfig:
    protocol: str = "mini/v1"
    watched: Watched = field(default_factory=Watched)


def test_a_neutral_value_can_be_set_and_is_nowhere_else():
    config = apply_overrides(WatchedConfig(), ["watched.every=3"])
    assert config == WatchedConfig(watched=Watched(every=3))
    both = apply_overrides(WatchedConfig(), ["watched.every=3", "watched.size=4"])
    assert both.protocol == apply_overrides(WatchedConfig(), ["watched.size=4"]).protocol
    assert as_plain(config) == {"protocol": "mini/v1", "watched": {"size": 8}}
    assert restore(config, as_plain(WatchedConfig())) == config
    given = ["watched.size=4", "watched.every=3", "watched.every=0"]
    assert aside(WatchedConfig(), given) == ("watched.every=3",)


def test_fields_that_changed_since_are_refused():
    plain = as_plain(Config())
    del plain["optim"]["clip"]
    with pytest.raises(ValueError, match="Optim changed: clip"):
        restore(Config(), plain)
