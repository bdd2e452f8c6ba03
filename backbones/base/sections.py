"""The sections of a recipe: what makes a run that run, and how impossible values are refused.

A recipe is a frozen dataclass of frozen dataclasses, its sections. What a value may be stands in
its field's type (``backbones.base.values``); values that exclude each other are found by
``Section.conflicts``. One checker reads both.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass, replace
from functools import cache
from typing import Any, NamedTuple, Self, TypeVar, get_type_hints

from backbones.base.errors import UserError
from backbones.base.values import refusal, unsupported

Config = TypeVar("Config")

# Metadata for ``dataclasses.field``: the value changes no result (how often something is written).
# It may be changed at any time: the run keeps its id and its row, and an unfinished run goes on.
OUTSIDE_IDENTITY: Mapping[str, Any] = {"outside_identity": True}

# The value says how the work is done, not what is computed. It may be changed at any time, like one
# outside the identity, but runs of before have it in their ids: the identity holds its default.
HOW_IT_IS_DONE: Mapping[str, Any] = {**OUTSIDE_IDENTITY, "identity_has_default": True}

# The value came after runs had been recorded: at its default, a recipe is the recipe that it was
# before, and so is its run.
LATER: Mapping[str, Any] = {"later": True}


# The value came later and is chosen when a run is planned: nobody types it.
CHOSEN: Mapping[str, Any] = {**LATER, "chosen": True}


class Conflict(NamedTuple):
    """A value that is possible, but not next to another one.

    Attributes:
        name: The field, from the section that reports it; "section.field" in a recipe's own.
        allowed: What the field may be instead; completes "use …".
    """

    name: str
    allowed: str


class Section:
    """Base of every section of a recipe, and of recipes."""

    def conflicts(self) -> Iterator[Conflict]:
        """Yield every value that does not go with another of the same section.

        It is called only when each value is allowed by its own type.
        """
        yield from ()


class Recipe(Section):
    """Base of recipes."""

    def resolved(self) -> Self:
        """Return the recipe with derived values filled in.

        Raises:
            UserError: Some values are impossible; names all of them.
        """
        check(self)
        return self


class Leaf(NamedTuple):
    """A value of a recipe.

    Attributes:
        name: "section.field", as ``--set`` takes it.
        value: As the recipe holds it.
        hint: Type of the field, with its bounds.
        in_identity: Whether it makes the run that run.
        chosen: Whether planning chooses it, so that nobody types it.
    """

    name: str
    value: Any
    hint: Any
    in_identity: bool
    chosen: bool = False


def leaves(config: Any, prefix: str = "") -> Iterator[Leaf]:
    """Yield every value of a recipe that is not a section, in the order of the fields.

    Args:
        config: The recipe, or a section.
        prefix: Stands in front of every name.
    """
    hints = _hints(config.__class__)
    for item in fields(config):
        value, name = getattr(config, item.name), prefix + item.name
        if is_dataclass(value):
            yield from leaves(value, f"{name}.")
        else:
            chosen = bool(item.metadata.get("chosen"))
            yield Leaf(name, value, hints[item.name], not is_outside_identity(item), chosen)


def is_outside_identity(item: "Field[Any]") -> bool:
    """Return whether a recipe's field was made with ``OUTSIDE_IDENTITY`` or ``HOW_IT_IS_DONE``."""
    return bool(item.metadata.get("outside_identity"))


def as_plain(config: Any) -> dict[str, Any]:
    """Return a recipe as plain JSON values: its identity, without later values at their default.

    Values that say how the work is done are at their default, whatever they are.
    """
    plain = {}
    for item in fields(config):
        value = _of_identity(item, getattr(config, item.name))
        if not _is_left_out(item) and not _is_unsaid(item, value):
            plain[item.name] = as_plain(value) if is_dataclass(value) else _listed(value)
    return plain


def restore(config: Config, values: Mapping[str, Any]) -> Config:
    """Return ``config`` with every field taken from ``values``, also after a way through JSON.

    Args:
        config: Any recipe with the same sections; values outside the identity stay as they are.
        values: From ``as_plain``.

    Raises:
        ValueError: The field names differ, so other code wrote ``values``.
    """
    items = [f for f in fields(config) if not _is_left_out(f)]  # type: ignore[arg-type]
    values = {**{f.name: f.default for f in items if _is_later(f)}, **values}
    names = {f.name for f in items}
    if names != set(values):
        differing = sorted(names ^ set(values))
        raise ValueError(f"the fields of {type(config).__name__} changed: {', '.join(differing)}")
    news = {}
    for name, value in values.items():
        current = getattr(config, name)
        news[name] = restore(current, value) if is_dataclass(current) else _tupled(value)
    return replace(config, **news)  # type: ignore[type-var]


def settings_of(config: Any) -> dict[str, Any]:
    """Return a recipe as nested dicts, without later values at their default.

    Values that say how the work is done are at their default, as in ``as_plain``.
    """
    found = {}
    for item in fields(config):
        value = _of_identity(item, getattr(config, item.name))
        if not _is_unsaid(item, value):
            found[item.name] = settings_of(value) if is_dataclass(value) else value
    return found


def check(config: Section) -> None:
    """Refuse a recipe with impossible values.

    Values that are wrong by themselves are all named together; where there are none, so are all
    that exclude each other.

    Raises:
        UserError: Some values are impossible; one sentence each.
    """
    alone = [refusal(leaf.name, leaf.value, leaf.hint) for leaf in leaves(config)]
    refuse([text for text in alone if text] or list(_conflicts(config)))


def refuse(problems: Sequence[str]) -> None:
    """Raise if there are problems.

    Raises:
        UserError: Names all of them.
    """
    if problems:
        raise UserError(" ".join(problems))


def refuse_conflicts(section: Section, conflicts: Iterable[Conflict]) -> None:
    """Raise if there are conflicts.

    Args:
        section: That the names of the conflicts start at.
        conflicts: Values that do not go with something else.

    Raises:
        UserError: Names all of them.
    """
    refuse([_sentence(section, conflict) for conflict in conflicts])


def _sentence(section: Section, conflict: Conflict, prefix: str = "") -> str:
    value: Any = section
    for part in conflict.name.split("."):
        value = getattr(value, part)
    return unsupported(prefix + conflict.name, value, conflict.allowed)


def _conflicts(section: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(section, Section):
        for conflict in section.conflicts():
            yield _sentence(section, conflict, prefix)
    for item in fields(section):
        value = getattr(section, item.name)
        if is_dataclass(value):
            yield from _conflicts(value, f"{prefix}{item.name}.")


def _of_identity(item: "Field[Any]", value: Any) -> Any:
    """Return what the identity holds of a field's value."""
    return item.default if item.metadata.get("identity_has_default") else value


def _is_left_out(item: "Field[Any]") -> bool:
    """Return whether the identity does not name a field at all."""
    return is_outside_identity(item) and not item.metadata.get("identity_has_default")


def _is_later(item: "Field[Any]") -> bool:
    return bool(item.metadata.get("later"))


def _is_unsaid(item: "Field[Any]", value: Any) -> bool:
    return _is_later(item) and value == item.default


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
