"""From a spec and a checkpoint to a backbone with its weights: all of them, or an error."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from backbones.base.errors import PreflightError
from backbones.base.files import sha256_file
from backbones.checkpoint import Checkpoint
from backbones.features import Backbone
from backbones.spec import BackboneSpec, BuildOptions
from backbones.timm_networks.backbone import NET
from backbones.weights.adapt import classifier_of, num_heads, rename, resize
from backbones.weights.foreign import read_foreign
from backbones.weights.formats import FORMATS, Imported, Reasons

State = dict[str, Tensor]


@dataclass(frozen=True)
class Coverage:
    """What became of every tensor of a backbone and of a file.

    Attributes:
        backbone: Name of the spec.
        source: Where the weights came from, as the user typed it.
        loaded: Tensors of the backbone that the file filled.
        total: Tensors of the backbone.
        fresh: Names of the backbone's tensors that stay fresh, each with the reason.
        dropped: Names of the file's tensors that were left out, each with the reason.
        resized: Names of position tables that were interpolated.
    """

    backbone: str
    source: str
    loaded: int
    total: int
    fresh: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    resized: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return the report as one line."""
        if not self.loaded:
            return f"{self.backbone}: all {self.total} tensors fresh."
        parts = [f"{self.backbone}: {self.loaded} of {self.total} tensors loaded"]
        parts += [f"{what} fresh" for what in _by_reason(self.fresh)]
        parts += [f"{what} dropped" for what in _by_reason(self.dropped)]
        if self.resized:
            parts.append(f"{_count(len(self.resized), 'position table')} resized")
        return f"{'; '.join(parts)}. ({self.source})"


def build_backbone(
    spec: BackboneSpec, checkpoint: Checkpoint, options: BuildOptions, seed: int
) -> tuple[Backbone, Coverage]:
    """Build a backbone and fill it.

    Args:
        spec: The backbone.
        checkpoint: Its weights; without a file, fresh ones.
        options: How this use varies the backbone.
        seed: For fresh weights; torch's global generator is left as it was.

    Returns:
        The backbone on the CPU in training mode, and what was loaded.

    Raises:
        PreflightError: The file cannot be read, is not the one that was named, does not fit the
            backbone tensor for tensor, or holds NaN.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        backbone = spec.build(options)
    total = len(backbone.state_dict())
    if checkpoint.path is None:
        fresh = dict.fromkeys(backbone.state_dict(), f"drawn from seed {seed}")
        return backbone, Coverage(spec.name, checkpoint.source, 0, total, fresh)
    return backbone, load_into(backbone, spec, checkpoint)


def load_into(backbone: Backbone, spec: BackboneSpec, checkpoint: Checkpoint) -> Coverage:
    """Fill a backbone that ``spec`` built from a checkpoint's file.

    Raises:
        PreflightError: As ``build_backbone``; the backbone is then as it was, but for the size of
            its position table.
    """
    imported = _import(checkpoint)
    state = imported.state
    if checkpoint.format != "backbench":
        state = rename(state, backbone, from_timm=checkpoint.format == "timm")
    state, resized = resize(state, backbone)
    wanted = backbone.state_dict()
    declared = tuple((pattern, "declared so by the spec") for pattern in spec.fresh_params)
    drops = (
        (*imported.drops, *classifier_of(backbone))
        if checkpoint.format == "timm"
        else imported.drops
    )
    fresh = _reasons([k for k in wanted if k not in state], (*declared, *imported.fresh))
    dropped = _reasons([k for k in state if k not in wanted], drops)
    try:
        _refuse_wrong_heads(spec, checkpoint, backbone)
        _refuse_misfit(spec.name, state, wanted, {**fresh, **dropped})
    except PreflightError as error:
        raise PreflightError(f"{checkpoint.path} (format {checkpoint.format}) {error}") from error
    filled = {name: tensor for name, tensor in state.items() if name in wanted}
    backbone.load_state_dict(filled, strict=False)
    return Coverage(spec.name, checkpoint.source, len(filled), len(wanted), fresh, dropped, resized)


def _import(checkpoint: Checkpoint) -> Imported:
    assert checkpoint.path is not None
    content = read_foreign(checkpoint.path)
    if sha256_file(checkpoint.path) != checkpoint.sha256:
        raise PreflightError(f"{checkpoint.path} changed while this run was using it.")
    try:
        return FORMATS[checkpoint.format].convert(content, checkpoint.branch)
    except PreflightError as error:
        raise PreflightError(
            f"{checkpoint.path} is not in the format {checkpoint.format}: {error}"
        ) from error


def _reasons(names: Iterable[str], reasons: Reasons) -> dict[str, str]:
    """Return, of ``names``, those that a pattern covers, with its reason."""
    found = {}
    for name in names:
        plain = name.removeprefix(NET)
        matching = (reason for pattern, reason in reasons if fnmatchcase(plain, pattern))
        reason = next(matching, None)
        if reason is not None:
            found[name] = reason
    return found


def _refuse_wrong_heads(spec: BackboneSpec, checkpoint: Checkpoint, backbone: Backbone) -> None:
    wanted = FORMATS[checkpoint.format].num_heads.get(spec.channels[-1])
    found = num_heads(backbone)
    if wanted and found and wanted != found:
        raise PreflightError(
            f"does not fit {spec.name}: this method's network of its width has {wanted} heads and "
            f"not {found}, which no shape shows; name the right arch= (vit-s16-h12)."
        )


def _refuse_misfit(name: str, state: State, wanted: State, explained: Mapping[str, str]) -> None:
    """Raise unless every tensor has its place and every place its tensor.

    Raises:
        PreflightError: With the first few names that do not fit.
    """
    wrong = [
        f"{k.removeprefix(NET)} is {tuple(state[k].shape)} in the file and {tuple(v.shape)} there"
        for k, v in wanted.items()
        if k in state and state[k].shape != v.shape
    ]
    if wrong:
        raise PreflightError(f"does not fit {name}: {_first(wrong, 1)}; name the right arch=.")
    missing = [k for k in wanted if k not in state and k not in explained]
    spare = [k for k in state if k not in wanted and k not in explained]
    if missing or spare:
        parts = [f"lacks {_first(missing)}"] if missing else []
        parts += [f"holds {_first(spare)} that it has no place for"] if spare else []
        raise PreflightError(
            f"does not fit {name}: it {' and '.join(parts)}; name the right arch= and format=."
        )
    broken = [k for k, v in state.items() if k in wanted and not torch.isfinite(v).all()]
    if broken:
        raise PreflightError(f"holds NaN or infinity in {_first(broken)}; use another file.")


def _first(names: list[str], count: int = 3) -> str:
    shown = ", ".join(name.removeprefix(NET) for name in names[:count])
    return f"{shown} and {len(names) - count} more" if len(names) > count else shown


def _by_reason(reasons: Mapping[str, str]) -> list[str]:
    """Return "104 tensors (MAE's decoder)" for each reason."""
    counts = Counter(reasons.values())
    return [f"{_count(count, 'tensor')} ({reason})" for reason, count in counts.items()]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"
