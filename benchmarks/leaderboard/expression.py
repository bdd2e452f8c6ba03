"""Conditions on rows, such as ``seeds >= 3 and APbox < baseline - 0.3``.

The grammar, in which nothing is ever run as code::

    condition  = all {"or" all}
    all        = one {"and" one}
    one        = "not" one | "(" condition ")" | sum relation sum
    relation   = "<" | "<=" | ">" | ">=" | "=" | "==" | "!=" | "~"
    sum        = term {("+" | "-") term}
    term       = number | 'text' | "text" | name | word | "baseline" ["." name]

``~`` means "contains", whatever the case. A word that is no name of a field is text, so that
``backbone = vit-b16`` needs no quotes; since words may hold signs, ``+`` and ``-`` between names
need spaces. ``baseline`` is the baseline's value of the field that it is compared with.
"""

import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from backbones.base.errors import UserError
from backbones.base.registry import did_you_mean

Field = float | str | None
Fields = Mapping[str, Field]
Node = Callable[[Fields, Fields], Field]
Condition = Callable[[Fields, Fields], bool | None]

_LONGEST, _DEEPEST = 1_000, 30
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?!\w))
    |(?P<text>'[^']*'|"[^"]*")
    |(?P<baseline>baseline(?:\.[A-Za-z_]\w*)?(?![\w./:]))
    |(?P<word>[A-Za-z_][\w./:+*@?&-]*)
    |(?P<sign><=|>=|==|!=|[<>=~()+-]))""",
    re.VERBOSE,
)
_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "=": operator.eq, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


@dataclass(frozen=True)
class Expression:
    """A condition that was understood.

    Attributes:
        text: As typed.
        condition: True, False, or None where a value that it needs is missing.
        fields: Names that it looks at.
        needs_baseline: It speaks of a baseline.
    """

    text: str
    condition: Condition
    fields: tuple[str, ...]
    needs_baseline: bool


def parse_expression(flag: str, text: str, known: Collection[str]) -> Expression:
    """Return the condition in a text.

    Args:
        flag: Where it was typed, for messages.
        text: The condition.
        known: Names of fields.

    Raises:
        UserError: It breaks the grammar, or compares what cannot be compared.
    """
    parser = _Parser(flag, text, known)
    condition = parser.condition()
    if parser.kind:
        raise parser.error(f"nothing may follow before {parser.token!r}")
    return Expression(text, condition, tuple(parser.fields), parser.needs_baseline)


def missing_name(kind: str, name: str, known: Collection[str]) -> str:
    """Return the sentence about a name that no field has."""
    guess = did_you_mean(name, known)
    return f'{kind}: unknown name "{name}".{guess} Known: {", ".join(sorted(known))}.'


@dataclass(frozen=True)
class _Term:
    """A side of a comparison: what it comes to, and the names in it."""

    node: Node
    names: tuple[str, ...] = ()
    word: str | None = None
    baselines: bool = False


class _Parser:
    def __init__(self, flag: str, text: str, known: Collection[str]) -> None:
        self._flag, self._text, self._known = flag, text, known
        self._at = self._depth = 0
        self.fields: dict[str, None] = {}
        self.needs_baseline = False
        self.kind = self.token = ""
        if len(text) > _LONGEST:
            raise UserError(f"{flag}: longer than {_LONGEST} characters.")
        self._next()

    def error(self, problem: str) -> UserError:
        example = "for example 'seeds >= 3 and APbox > 40'"
        return UserError(f"{self._flag} {self._text!r}: {problem}; {example}.")

    def condition(self) -> Condition:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self.error(f"more than {_DEEPEST} brackets inside one another")
        parts = [self._all()]
        while self._take("word", "or"):
            parts.append(self._all())
        self._depth -= 1
        return (
            parts[0] if len(parts) == 1 else lambda row, base: _any([p(row, base) for p in parts])
        )

    def _all(self) -> Condition:
        parts = [self._one()]
        while self._take("word", "and"):
            parts.append(self._one())
        if len(parts) == 1:
            return parts[0]
        return lambda row, base: _not(_any([_not(part(row, base)) for part in parts]))

    def _one(self) -> Condition:
        if self._take("word", "not"):
            self._depth += 1
            if self._depth > _DEEPEST:
                raise self.error(f"more than {_DEEPEST} times 'not'")
            inner = self._one()
            self._depth -= 1
            return lambda row, base: _not(inner(row, base))
        if self._take("sign", "("):
            found = self.condition()
            if not self._take("sign", ")"):
                raise self.error("a bracket is not closed")
            return found
        return self._comparison()

    def _comparison(self) -> Condition:
        left, relation = self._sum(), self.token
        if self.kind != "sign" or relation not in {*_RELATIONS, "~"}:
            raise self.error("a comparison such as 'APbox > 40' is missing")
        self._next()
        right = self._sum()
        names = dict.fromkeys([*left.names, *right.names])
        if not names:
            raise UserError(missing_name(self._flag, left.word or self._text, self._known))
        one = left.node if not left.baselines else self._with_baseline(left.node, names)
        other = right.node if not right.baselines else self._with_baseline(right.node, names)
        return lambda row, base: _compare(self.error, relation, one(row, base), other(row, base))

    def _with_baseline(self, node: Node, names: Collection[str]) -> Node:
        if len(names) != 1:
            raise self.error("beside several names, write baseline.NAME")
        (name,) = names
        return lambda row, base: node(row, {**base, "": base.get(name)})

    def _sum(self) -> _Term:
        total = self._term()
        while self.kind == "sign" and self.token in "+-":
            sign = 1 if self.token == "+" else -1
            self._next()
            total = self._added(total, self._term(), sign)
        return total

    def _added(self, left: _Term, right: _Term, sign: int) -> _Term:
        def node(row: Fields, base: Fields) -> Field:
            one, other = left.node(row, base), right.node(row, base)
            if one is None or other is None:
                return None
            if isinstance(one, str) or isinstance(other, str):
                raise self.error("text cannot be added")
            return one + sign * other

        return _Term(node, (*left.names, *right.names), None, left.baselines or right.baselines)

    def _term(self) -> _Term:
        kind, token = self.kind, self.token
        negative = kind == "sign" and token == "-"
        if negative:
            self._next()
            kind, token = self.kind, self.token
        if not kind or kind == "sign" or (negative and kind != "number"):
            raise self.error(
                f"a name or a number is missing{f' before {token!r}' if token else ''}"
            )
        self._next()
        if kind == "number":
            number = -float(token) if negative else float(token)
            return _Term(lambda row, base: number)
        if kind == "text":
            return _Term(lambda row, base: token[1:-1], word=token)
        return self._baseline(token) if kind == "baseline" else self._named(token)

    def _baseline(self, token: str) -> _Term:
        self.needs_baseline = True
        name = token.partition(".")[2]
        if name and name not in self._known:
            raise UserError(missing_name(self._flag, name, self._known))
        return _Term(lambda row, base: base.get(name), baselines=not name)

    def _named(self, token: str) -> _Term:
        if token not in self._known:
            return _Term(lambda row, base: token, word=token)
        self.fields[token] = None
        return _Term(lambda row, base: row.get(token), (token,))

    def _take(self, kind: str, token: str) -> bool:
        found = (self.kind, self.token) == (kind, token)
        if found:
            self._next()
        return found

    def _next(self) -> None:
        rest = self._text[self._at :]
        match = _TOKEN.match(rest)
        if match is None:
            if rest.strip():
                raise self.error(f"{rest.strip()[0]!r} means nothing here")
            self.kind = self.token = ""
            return
        self._at += match.end()
        self.kind = match.lastgroup or ""
        self.token = match.group(self.kind)


def _compare(
    error: Callable[[str], UserError], relation: str, left: Field, right: Field
) -> bool | None:
    if left is None or right is None:
        return None
    if relation == "~":
        return str(right).lower() in str(left).lower()
    if isinstance(left, str) and isinstance(right, str):
        if relation not in ("=", "==", "!="):
            raise error(f"text has no order: {left!r} {relation} {right!r}")
        return (left == right) == (relation != "!=")
    if isinstance(left, str) or isinstance(right, str):
        text = left if isinstance(left, str) else right
        raise error(f"{text!r} is compared with a number; names need spaces round + and -")
    return _RELATIONS[relation](left, right)


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _any(values: list[bool | None]) -> bool | None:
    if True in values:
        return True
    return None if None in values else False
