"""``--set a.b=c`` on frozen dataclasses, type-checked by OmegaConf."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, make_dataclass, replace
from difflib import get_close_matches
from math import isfinite
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from backbones.base.errors import UserError
from backbones.base.files import hash16
from backbones.base.sections import is_neutral

Config = TypeVar("Config")

_MARK = "+custom:"


def apply_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Return ``config`` with overrides applied and its ``protocol`` marked.

    The mark is ``+custom:`` and six digits that depend on the changed values alone, so that rows
    with the same changes still share a table, and never one with unchanged rows. Neutral values
    (``backbones.base.sections``) leave no mark.

    Args:
        config: A frozen dataclass of frozen dataclasses with a field ``protocol``.
        overrides: Texts ``section.field=value``.

    Raises:
        UserError: A text has another form, names an unknown field, or its value has another type.
    """
    before = dict(_leaves(config))
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise UserError(
                f"--set {override}: write KEY=VALUE, for example --set optim.base_lr=1e-4."
            )
        if key not in before or key == "protocol":
            raise UserError(_unknown(key, [name for name in before if name != "protocol"]))
        config = _with(config, key.split("."), text, override)
    neutral = neutral_keys(config)
    changed = {
        key: value for key, value in _leaves(config) if value != before[key] and key not in neutral
    }
    if not changed:
        return config
    protocol = f"{before['protocol']}{_MARK}{hash16(changed)[:6]}"
    return replace(config, protocol=protocol)  # type: ignore[type-var]


def base_protocol(protocol: str) -> str:
    """Return a protocol's id without the mark of overrides."""
    return protocol.partition(_MARK)[0]


def leaves_of(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what a config comes to as plain values, ``section.field`` and value.

    Args:
        plain: From ``as_plain``, or the recipe in a record.
        prefix: Of the names.
    """
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from leaves_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def keys_of(config: Any) -> set[str]:
    """Return what ``--set`` may name in a config, ``section.field``."""
    return {name for name, _ in _leaves(config) if name != "protocol"}


def neutral_keys(config: Any, prefix: str = "") -> set[str]:
    """Return those of ``keys_of`` that change no result."""
    found = {f"{prefix}{item.name}" for item in fields(config) if is_neutral(item)}
    sections = [(item.name, getattr(config, item.name)) for item in fields(config)]
    parts = [neutral_keys(v, f"{prefix}{name}.") for name, v in sections if is_dataclass(v)]
    return found.union(*parts)


def aside(config: Any, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return those overrides that give a recipe another neutral value.

    Args:
        config: As the recipe made it.
        overrides: As in ``apply_overrides``.
    """
    keys = neutral_keys(config)
    ours = [text for text in overrides if text.partition("=")[0] in keys]
    return tuple(text for text in ours if apply_overrides(config, [text]) != config)


def restore(config: Config, values: Mapping[str, Any]) -> Config:
    """Return ``config`` with every field taken from ``values``, as ``as_plain`` and JSON left them.

    Neutral values, which are not among them, stay.

    Raises:
        ValueError: The field names differ, so the code is not the one that wrote ``values``.
    """
    names = {f.name for f in fields(config) if not is_neutral(f)}  # type: ignore[arg-type]
    if names != set(values):
        differing = sorted(names ^ set(values))
        raise ValueError(f"the fields of {type(config).__name__} changed: {', '.join(differing)}")
    news = {name: _restored(getattr(config, name), values[name]) for name in names}
    return replace(config, **news)  # type: ignore[type-var]


def as_plain(config: Any) -> dict[str, Any]:
    """Return a config as plain JSON values, without the neutral ones: what makes a run that run."""
    plain = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if not is_neutral(item):
            plain[item.name] = as_plain(value) if is_dataclass(value) else _listed(value)
    return plain


def _restored(current: Any, value: Any) -> Any:
    if is_dataclass(current):
        return restore(current, value)
    return _tupled(value)


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", value


def _unknown(key: str, known: list[str]) -> str:
    # A person often knows the field and not its section.
    tails = {name.rpartition(".")[2]: name for name in known}
    near = get_close_matches(key, known, n=1) or [
        tails[tail] for tail in get_close_matches(key.rpartition(".")[2], tails, n=1)
    ]
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return f"--set {key}=…: unknown key.{guess} Known: {', '.join(known)}."


def _with(config: Any, path: list[str], text: str, override: str) -> Any:
    name, *rest = path
    if rest:
        return replace(config, **{name: _with(getattr(config, name), rest, text, override)})
    hint = get_type_hints(type(config))[name]
    return replace(config, **{name: _parse(hint, text, override)})


def _parse(hint: Any, text: str, override: str) -> Any:
    """Return ``text`` as a value of type ``hint``."""
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            raise UserError(f"--set {override}: choose from {', '.join(get_args(hint))}.")
        return text
    leaf = OmegaConf.structured(make_dataclass("Leaf", [("value", hint)]))
    try:
        given = OmegaConf.from_dotlist([f"value={text}"])
        value = OmegaConf.to_container(OmegaConf.merge(leaf, given), throw_on_missing=True)
    except (OmegaConfBaseException, YAMLError) as error:
        name = getattr(hint, "__name__", str(hint)) if not get_args(hint) else str(hint)
        raise UserError(f"--set {override}: the value must be {name}.") from error
    assert isinstance(value, dict)
    found = _tupled(value["value"])
    # Records are JSON, which has neither NaN nor infinity.
    if not all(isfinite(number) for number in _floats(found)):
        raise UserError(f"--set {override}: the value must be a finite number.")
    return _checked_length(hint, found, override)


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _floats(item)


def _checked_length(hint: Any, value: Any, override: str) -> Any:
    arguments = get_args(hint)
    if get_origin(hint) is tuple and Ellipsis not in arguments and len(value) != len(arguments):
        raise UserError(f"--set {override}: takes {len(arguments)} values, not {len(value)}.")
    return value
