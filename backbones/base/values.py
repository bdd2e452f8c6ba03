"""What a value may be, said by its type; and the one sentence that refuses it.

``Literal`` lists choices, ``Annotated[float, Meta(gt=0)]`` gives bounds, ``Rule`` adds what neither
can say. msgspec checks the first two. The words come from the type, so every wrong value is refused
alike: ``optim.optimizer: "adam" is not supported; use "adamw" or "sgd".``
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from backbones.base.registry import did_you_mean, nearest


@dataclass(frozen=True)
class Rule:
    """A condition on a value that ``Meta`` cannot express; stands in ``Annotated`` like it.

    Attributes:
        words: Completes "use a list of 2 values, …"; empty where ``Meta(description=…)`` says it.
        holds: Whether a value of the right type and length is allowed.
    """

    words: str
    holds: Callable[[Any], bool]


RISING = Rule("in rising order", lambda values: list(values) == sorted(values))
DISTINCT = Rule("each value once", lambda values: len(set(values)) == len(values))

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, le=1)]
Probability = Annotated[float, Meta(ge=0, le=1)]
# A momentum, or a probability of dropping that must leave something.
Below1 = Annotated[float, Meta(ge=0, lt=1)]
Inside01 = Annotated[float, Meta(gt=0, lt=1)]
Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]
ShareRange = Annotated[tuple[Share, Share], RISING]
PositiveRange = Annotated[tuple[Positive, Positive], RISING]
Betas = tuple[Below1, Below1]
# Layers in a row, built one by one; the deepest networks of the field have a few hundred.
Layers = Annotated[int, Meta(ge=1, le=1000)]
LayersOrNone = Annotated[int, Meta(ge=0, le=1000)]
# What exists by that name is known to a registry, which refuses unknown names.
Name = Annotated[str, Meta(pattern=r"^\S+\Z", description="a name without spaces")]

# Beyond these no setting means anything, and floats, native code or memory give way: a billion
# images, a trillion epochs. Bounds of a type are narrower where it has any.
_MOST_COUNTED = 10**9
_LARGEST, _SMALLEST = 1e12, 1e-20


def refusal(name: str, value: Any, hint: Any) -> str:
    """Return the sentence that refuses a value, empty if its type allows it.

    Args:
        name: "section.field".
        value: The value.
        hint: Type of the field, with its bounds.
    """
    if fits(value, hint):
        return ""
    return unsupported(name, value, allowed(hint) + _reach(value)) + _guess(value, hint)


def fits(value: Any, hint: Any) -> bool:
    """Return whether a type allows a value, and its numbers are of a size that means anything.

    Integers are numbers; NaN and infinity are not.

    Args:
        value: Any value.
        hint: A type, with its bounds.
    """
    base, marks = parts_of(hint)
    try:
        msgspec.convert(value, type=hint)
    except msgspec.ValidationError:
        return False
    if isinstance(value, int | float) and not _in_reach(value):
        return False
    if isinstance(value, tuple | list) and not all(map(fits, value, _items(base, len(value)))):
        return False
    return all(mark.holds(value) for mark in marks if isinstance(mark, Rule))


def _in_reach(number: float) -> bool:
    if isinstance(number, int):
        return abs(number) <= _MOST_COUNTED
    return number == 0 or (isfinite(number) and _SMALLEST <= abs(number) <= _LARGEST)


def _reach(value: Any) -> str:
    """Return which sizes are allowed, empty for a value whose size is not what is wrong."""
    numbers = value if isinstance(value, tuple | list) else [value]
    numbers = [number for number in numbers if isinstance(number, int | float)]
    beyond = [number for number in numbers if not _in_reach(number)]
    if any(isinstance(number, int) for number in beyond):
        return f", in any case up to {_MOST_COUNTED:,}"
    if any(isfinite(number) for number in beyond):
        return f", of a size from {_SMALLEST:g} to {_LARGEST:g}"
    return ""


def allowed(hint: Any) -> str:
    """Return what a type allows, in words that complete "use …".

    Args:
        hint: A type, with its bounds.
    """
    base, marks = parts_of(hint)
    metas = [mark for mark in marks if isinstance(mark, Meta)]
    said = [meta.description for meta in metas if meta.description] or [_described(base, metas)]
    return ", ".join([*said, *(m.words for m in marks if isinstance(m, Rule) and m.words)])


def unsupported(name: str, value: Any, instead: str) -> str:
    """Return the sentence that refuses a value.

    Args:
        name: "section.field".
        value: The value.
        instead: What is allowed; completes "use …".
    """
    return f"{name}: {_shown(value)} is not supported; use {instead}."


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _guess(value: Any, hint: Any) -> str:
    """Return the question for the choice that was probably meant, empty without one."""
    base, _ = parts_of(hint)
    if isinstance(value, str) and get_origin(base) is Literal:
        return did_you_mean(value, get_args(base))
    if not isinstance(value, tuple | list):
        return ""
    kinds = [parts_of(kind)[0] for kind in _items(base, len(value))]
    meant = [_nearest_choice(item, kind) for item, kind in zip(value, kinds, strict=False)]
    if meant == list(value) or not fits(meant, hint):
        return ""
    return f" Did you mean {_shown(meant)}?"


def _nearest_choice(item: Any, kind: Any) -> Any:
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    return (nearest(item, choices) or item) if isinstance(item, str) else item


def _described(base: Any, metas: Sequence[Meta]) -> str:
    origin, arguments = get_origin(base), get_args(base)
    if origin is Literal:
        return _either([json.dumps(choice) for choice in arguments])
    if origin in (Union, UnionType):
        return " or ".join(map(allowed, arguments))
    if origin is tuple:
        return _list_of(arguments, metas)
    return _number(base, metas)


def _list_of(arguments: tuple[Any, ...], metas: Sequence[Meta]) -> str:
    each = allowed(arguments[0])
    if Ellipsis not in arguments:
        return f"a list of {len(arguments)} values, each {each}"
    least = max((meta.min_length or 0 for meta in metas), default=0)
    return f"a list{f' of at least {least} value' if least else ''}, each {each}"


def _number(base: Any, metas: Sequence[Meta]) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    noun = words.get(base, "null")
    bounds = []
    for meta in metas:
        noun = f"a multiple of {meta.multiple_of}" if meta.multiple_of else noun
        limits = (meta.ge, meta.gt, meta.le, meta.lt)
        names = ("at least", "above", "at most", "below")
        pairs = zip(names, limits, strict=True)
        bounds += [f"{name} {limit:g}" for name, limit in pairs if limit is not None]
    if base is float and not bounds:
        return "a finite number"
    link = " of " if bounds and bounds[0].startswith("at ") else " "
    return (noun + link + " and ".join(bounds)).rstrip()


def _either(choices: Sequence[str]) -> str:
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def parts_of(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type without its annotations, and the annotations."""
    if get_origin(hint) is not Annotated:
        return hint, ()
    base, *marks = get_args(hint)
    return base, tuple(marks)


def _items(base: Any, length: int) -> Sequence[Any]:
    """Return the types of a list's values."""
    arguments = get_args(base) if get_origin(base) is tuple else (Any, Ellipsis)
    return [arguments[0]] * length if Ellipsis in arguments else arguments
