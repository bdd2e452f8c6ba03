"""``--set section.field=value`` on recipes.

Values are read as YAML 1.1, so that lists, quotes and booleans are typed as in every config file,
and become what the field's type asks for (``1`` and ``1e-4`` are numbers where a number is due).
Numbers are decimal: ``0x10``, ``1_000``, ``1:30`` and digits of other scripts are refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, get_origin

import msgspec
import yaml  # type: ignore[import-untyped]

from backbones.base.files import hash16
from backbones.base.registry import did_you_mean, nearest
from backbones.base.sections import Leaf, leaves, refuse
from backbones.base.values import parts_of, refusal

Config = TypeVar("Config")

_MARK = "+custom:"


def apply_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Return ``config`` with overrides applied and its ``protocol`` marked.

    The mark is ``+custom:`` and six digits that depend only on the changed values, so that rows
    with the same changes share a table, and never one with unchanged rows. Values outside a run's
    identity (``backbones.base.sections``) leave no mark.

    Args:
        config: A recipe with a field ``protocol``.
        overrides: Texts ``section.field=value``.

    Raises:
        UserError: A text has another form, names an unknown field, or its value is not one that
            the field may have; names all of them.
    """
    before = settable(config)
    problems = []
    for override in overrides:
        key, separator, text = override.partition("=")
        problem = _misnamed(override, key, separator, before)
        if not problem:
            value = _parse(text, before[key].hint)
            problem = refusal(key, value, before[key].hint)
        if problem:
            problems.append(problem)
        else:
            config = _with(config, key.split("."), value)
    refuse(problems)
    changed = {
        leaf.name: leaf.value
        for leaf in settable(config).values()
        if leaf.in_identity and leaf.value != before[leaf.name].value
    }
    if not changed:
        return config
    protocol = f"{config.protocol}{_MARK}{hash16(changed)[:6]}"  # type: ignore[attr-defined]
    return replace(config, protocol=protocol)  # type: ignore[type-var]


def base_protocol(protocol: str) -> str:
    """Return a protocol's id without the mark of overrides."""
    return protocol.partition(_MARK)[0]


def leaves_of(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a recipe in plain form, ``section.field`` and value.

    Args:
        plain: From ``as_plain``, or the recipe in a record.
        prefix: Stands in front of every name.
    """
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from leaves_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def settable(config: Any) -> dict[str, Leaf]:
    """Return the values that ``--set`` can change, by ``section.field``."""
    return {
        leaf.name: leaf for leaf in leaves(config) if leaf.name != "protocol" and not leaf.chosen
    }


def overrides_outside_identity(config: Any, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return those overrides that change values outside a run's identity.

    Args:
        config: The recipe without overrides.
        overrides: As in ``apply_overrides``.
    """
    keys = {leaf.name for leaf in leaves(config) if not leaf.in_identity}
    chosen = [text for text in overrides if text.partition("=")[0] in keys]
    return tuple(text for text in chosen if apply_overrides(config, [text]) != config)


def _misnamed(override: str, key: str, separator: str, known: Mapping[str, Leaf]) -> str:
    """Return what is wrong with the name in an override, empty if nothing is."""
    if not separator:
        return f"--set {override}: write KEY=VALUE, for example --set optim.base_lr=1e-4."
    if key in known:
        return ""
    # A person often knows the field and not its section.
    tails = {name.rpartition(".")[2]: name for name in known}
    near = tails.get(nearest(key.rpartition(".")[2], tails), "")
    guess = did_you_mean(key, known) or did_you_mean(near, [near])
    return f"--set {key}: unknown key.{guess} Known: {', '.join(known)}."


def _with(config: Any, path: list[str], value: Any) -> Any:
    name, *rest = path
    new = _with(getattr(config, name), rest, value) if rest else value
    return replace(config, **{name: new})


def _parse(text: str, hint: Any) -> Any:
    """Return ``text`` as a value of a type, or what YAML takes it for if the type refuses it."""
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        value = text
    base, _ = parts_of(hint)
    if base is str or get_origin(base) is Literal:
        # YAML takes a bare none, off or 12 for something other than text.
        return value if isinstance(value, str | list | dict) else text
    if base is bool and isinstance(value, int) and value in (0, 1):
        return bool(value)
    try:
        return msgspec.convert(_numbers(value), type=hint)
    except msgspec.ValidationError:
        return _numbers(value)


def _numbers(value: Any) -> Any:
    """Return what YAML read with lists as tuples and numbers in quotes as numbers."""
    if isinstance(value, list):
        return tuple(map(_numbers, value))
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return value


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads YAML with numbers as people write them.

    YAML 1.1 takes 0x10, 1_000, 010 and 1:30 for 16, 1000, 8 and 90, and 1e-4 for a text.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith((":int", ":float"))]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


_NUMBER = re.compile(
    r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?|[-+]?\.?inf|\.?nan", re.IGNORECASE
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+\Z"), None)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(f"(?:{_NUMBER.pattern})\\Z", re.IGNORECASE), None
)
_Loader.add_constructor("tag:yaml.org,2002:int", _whole)
