"""Finds the network in a file: under which names and which prefix it lies whole."""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor

from backbones.base.errors import PreflightError, UserError
from backbones.base.wording import first_of
from backbones.features import Backbone
from backbones.spec import BackboneSpec
from backbones.timm_networks.backbone import NET
from backbones.weights.adapt import adopt, classifier_of, rename, resize
from backbones.weights.branches import EXCHANGED, branch_of, official
from backbones.weights.content import Content, unmerged
from backbones.weights.layout import BESIDE, BESIDE_ANY_METHOD, Format, Reasons
from backbones.weights.steps.table import STEPS
from backbones.weights.wish import Wish

State = dict[str, Tensor]

# A file rarely has more places where a network may begin; each costs a comparison of all names.
_MOST_PREFIXES = 200


class RefusedFitError(PreflightError):
    """A network fits a file by names and shapes, and the file is refused for another reason."""


@dataclass(frozen=True)
class Fit:
    """A network's tensors under one prefix, held against a backbone.

    Attributes:
        form: The format whose names they have.
        prefix: Full prefix.
        branch: Which copy it is.
        state: By the backbone's names.
        fresh: The backbone's names that the file lacks for a reason.
        dropped: Names that are left out, each with the reason.
        resized: Names of resized tables.
        missing: The backbone's names that the file lacks.
        spare: Names under the prefix that nothing explains.
        wrong: "NAME is SHAPE in the file and SHAPE there".
        others: What else the file holds, by the first word that differs.
    """

    form: Format
    prefix: str
    branch: str
    state: State
    fresh: Mapping[str, str]
    dropped: Mapping[str, str]
    resized: tuple[str, ...]
    missing: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Return whether every tensor has its place and every place its tensor."""
        return not (self.missing or self.spare or self.wrong)


def search(
    content: Content,
    forms: Sequence[Format],
    spec: BackboneSpec,
    backbone: Backbone,
    wish: Wish,
) -> Fit:
    """Return the one network in a file that fits a backbone.

    Args:
        content: Of the file; tensors may be on the meta device.
        forms: Formats to try, the likeliest first.
        spec: Of the backbone.
        backbone: Built, on any device; it is not changed.
        wish: What the user said.

    Raises:
        UserError: Two networks in the file fit and nothing says which is meant.
        PreflightError: None fits; names the one that came nearest.
    """
    nearest: Fit | None = None
    for form in forms:
        fits = [
            hold(content, form, prefix, spec, copy.deepcopy(backbone))
            for prefix in _prefixes(content, form, backbone)
            if wish.allows(prefix)
        ]
        whole = [fit for fit in fits if fit.whole]
        if whole:
            return _choose(whole, form, wish)
        nearest = min([*fits, *([nearest] if nearest else [])], key=_distance, default=None)
    raise PreflightError(_why_none(content, spec, nearest, wish))


def hold(
    content: Content, form: Format, prefix: str, spec: BackboneSpec, backbone: Backbone
) -> Fit:
    """Hold the tensors under a prefix against a backbone, which takes over norms and tables."""
    behind = {
        name.removeprefix(prefix): tensor
        for name, tensor in _renamed(content.tensors, form.moves).items()
        if name.startswith(prefix)
    }
    state = to_timm(behind, form, backbone)
    state = rename(state, backbone) if form.name != "backbench" else state
    adopt(backbone, state, form.positions)
    state, resized = resize(state, backbone, form.positions)
    wanted = backbone.state_dict()
    declared = tuple((pattern, "declared so by the spec") for pattern in spec.fresh_params)
    lacking = [name for name in wanted if name not in state]
    fresh = reasons_of(lacking, (*declared, *form.fresh))
    # What the format may leave out goes in front, since its reasons say more.
    drops = (*form.drops, *classifier_of(backbone), *BESIDE)
    drops = () if form.name == "backbench" else drops + (() if form.method else BESIDE_ANY_METHOD)
    extra = [name for name in state if name not in wanted]
    dropped = reasons_of(extra, drops)
    return Fit(
        form=form,
        prefix=prefix,
        branch=branch_of(prefix, form, EXCHANGED in content.tensors),
        state=state,
        fresh=fresh,
        dropped=dropped,
        resized=resized,
        missing=tuple(name for name in lacking if name not in fresh),
        spare=tuple(name for name in extra if name not in dropped),
        wrong=tuple(
            f"{name.removeprefix(NET)} is {tuple(state[name].shape)} in the file and "
            f"{tuple(tensor.shape)} there"
            for name, tensor in wanted.items()
            if name in state and state[name].shape != tensor.shape
        ),
        others=tuple(_outside(content, prefix)),
    )


def to_timm(state: State, form: Format, backbone: Backbone) -> State:
    """Give tensors timm's names, by the renames and steps of a format."""
    state = _renamed(state, form.renames)
    for step in form.steps:
        state = STEPS[step](state, backbone)
    return state


def _renamed(state: State, renames: Sequence[tuple[str, str]]) -> State:
    """Return tensors by new names, made by regular expressions and replacements in order."""
    rules = [(re.compile(pattern), to) for pattern, to in renames]
    renamed = {}
    for name, tensor in state.items():
        for pattern, to in rules:
            name = pattern.sub(to, name)
        renamed[name] = tensor
    return renamed


def reasons_of(names: Iterable[str], reasons: Reasons) -> dict[str, str]:
    """Return, of ``names``, those that a pattern covers, with its reason."""
    found = {}
    for name in names:
        plain = name.removeprefix(NET)
        matching = (reason for pattern, reason in reasons if fnmatchcase(plain, pattern))
        reason = next(matching, None)
        if reason is not None:
            found[name] = reason
    return found


def _prefixes(content: Content, form: Format, backbone: Backbone) -> Iterator[str]:
    """Yield the full prefixes under which a network of a format may lie, the shortest first."""
    if form.name == "backbench":  # names as they are
        yield ""
        return
    anchors = form.anchors or tuple(_anchors_of(backbone))
    found = {
        name.removesuffix(anchor)
        for anchor in anchors
        for name in _renamed(content.tensors, form.moves)
        if name == anchor or name.endswith(f".{anchor}")
    }
    yield from sorted(found, key=lambda prefix: (prefix.count("."), prefix))[:_MOST_PREFIXES]


def _anchors_of(backbone: Backbone) -> list[str]:
    """Return the name of a network's first matrix, which every file of the network holds."""
    own = [
        name.removeprefix(NET)
        for name, tensor in backbone.state_dict().items()
        if tensor.ndim >= 2 and "." in name.removeprefix(NET)
    ]
    return own[:1]


def _choose(whole: Sequence[Fit], form: Format, wish: Wish) -> Fit:
    by_branch: dict[str, list[Fit]] = {}
    for fit in whole:
        by_branch.setdefault(fit.branch, []).append(fit)
    if wish.branch and wish.branch not in by_branch:
        only = " and ".join(sorted(by_branch))
        raise PreflightError(
            f"holds no {wish.branch} copy, only {only} ({_shown(whole)}); leave branch= out."
        )
    branch = wish.branch or official(by_branch, form)
    candidates = by_branch.get(branch or "", list(whole))
    if len(candidates) > 1:
        raise UserError(
            f"holds several networks that fit: {_shown(candidates)}; choose one with &branch= "
            f"({', '.join(sorted(by_branch))}) or &prefix=."
        )
    return candidates[0]


def _shown(fits: Sequence[Fit]) -> str:
    return " and ".join(f"{fit.prefix!r} ({fit.branch})" for fit in fits)


def _outside(content: Content, prefix: str) -> Iterator[str]:
    """Yield what lies next to a network, by the first word that tells it from the network."""
    words = prefix.split(".")
    seen = set()
    for name in (*content.tensors, *content.unnamed):
        if name.startswith(prefix):
            continue
        parts = name.split(".")
        same = next((i for i, (a, b) in enumerate(zip(parts, words, strict=False)) if a != b), 0)
        word = ".".join(parts[: same + 1])
        if word not in seen:
            seen.add(word)
            yield word


def _distance(fit: Fit) -> tuple[int, int]:
    return (len(fit.missing) + len(fit.wrong), len(fit.spare))


def _why_none(content: Content, spec: BackboneSpec, nearest: Fit | None, wish: Wish) -> str:
    names = [name.removeprefix(NET) for name in nearest.spare] if nearest else content.tensors
    why = unmerged(names)
    if why:
        return f"does not fit {spec.name}: it {why}."
    if nearest is None:
        named = f" under prefix {wish.prefix!r}" if wish.prefix else ""
        return (
            f"does not fit {spec.name}: no tensor{named} has the name of one of its first; the "
            f"file holds {first([*content.tensors] or content.holds)}. Name the right arch=."
        )
    where = f" under {nearest.prefix!r}" if nearest.prefix else ""
    if nearest.wrong:
        return f"does not fit {spec.name}: {first(nearest.wrong, 1)}{where}; name the right arch=."
    parts = [f"lacks {first(nearest.missing)}"] if nearest.missing else []
    spare = nearest.spare
    parts += [f"holds {first(spare)} that it has no place for"] if spare else []
    return (
        f"does not fit {spec.name}: nearest is format {nearest.form.name}{where}, where it "
        f"{' and '.join(parts)}; name the right arch=."
    )


def first(names: Sequence[str], count: int = 3) -> str:
    """Return the first few names, and how many follow."""
    return first_of([name.removeprefix(NET) for name in names], count) or "nothing"
