"""From a spec and a checkpoint to a backbone with its weights: all of them, or an error."""

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl

import torch
from torch import Tensor, nn

from backbones.base.errors import PreflightError, UserError
from backbones.checkpoint import Checkpoint
from backbones.features import Backbone
from backbones.spec import BackboneSpec, BuildOptions
from backbones.timm_networks.backbone import NET
from backbones.vit.positions_rule import BICUBIC
from backbones.weights.adapt import set_activation, set_norm_eps
from backbones.weights.content import Content, flatten
from backbones.weights.facts import ACT, EPS, refuse_contradictions
from backbones.weights.fingerprint import marked, refuse_unread
from backbones.weights.fit import Fit, RefusedFitError, first, hold, search
from backbones.weights.folders import settings_of, sha256_weights
from backbones.weights.foreign import read_foreign
from backbones.weights.formats import FORMATS
from backbones.weights.layout import Format
from backbones.weights.use import positions_of_checkpoint
from backbones.weights.wish import Wish

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
        how: How the file was read and how the network is used, sentences without a full stop.
    """

    backbone: str
    source: str
    loaded: int
    total: int
    fresh: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    resized: tuple[str, ...] = ()
    how: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return the report as one line."""
        if not self.loaded:
            return f"{self.backbone}: all {self.total} tensors fresh."
        parts = [f"{self.backbone}: {self.loaded} of {self.total} tensors loaded"]
        parts += [f"{what} fresh" for what in _by_reason(self.fresh)]
        parts += [f"{what} dropped" for what in _by_reason(self.dropped)]
        if self.resized:
            parts.append(f"{_count(len(self.resized), 'position table')} resized")
        return f"{'; '.join([*parts, *self.how])}. ({self.source})"


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
        UserError: Two networks in the file fit and nothing says which is meant.
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
        UserError: As ``build_backbone``.
        PreflightError: As ``build_backbone``; the backbone is then as it was.
    """
    assert checkpoint.path is not None
    content = flatten_file(checkpoint)
    if sha256_weights(checkpoint.path) != checkpoint.sha256:
        raise PreflightError(f"{checkpoint.path} changed while this run was using it.")
    form = format_of(checkpoint, spec)
    try:
        found = find(content, (form,), spec, backbone, wish_of(checkpoint))
        fit = hold(content, form, found.prefix, spec, backbone)
        _refuse_broken(fit, backbone)
    except UserError as error:
        raise error.reworded(f"{checkpoint.path} (format {form.name}) {error}") from error
    wanted = backbone.state_dict()
    filled = {name: tensor for name, tensor in fit.state.items() if name in wanted}
    backbone.load_state_dict(filled, strict=False)
    _set_computation(backbone, form, checkpoint.settings)
    return Coverage(
        spec.name,
        checkpoint.source,
        len(filled),
        len(wanted),
        fit.fresh,
        fit.dropped,
        fit.resized,
        tuple(how(fit, checkpoint, spec)),
    )


def _set_computation(backbone: Backbone, form: Format, settings: str) -> None:
    """Give a network what no tensor of its file shows: epsilons and activation.

    Args:
        backbone: Changed in place.
        form: Of the file.
        settings: What deviates from the format, see ``Checkpoint.settings``.
    """
    stated = dict(parse_qsl(settings))
    set_norm_eps(backbone, form.norm_eps)
    eps = float(stated[EPS]) if EPS in stated else form.stated_eps
    set_norm_eps(backbone, eps, names=form.eps_norms)
    set_norm_eps(backbone, form.batch_norm_eps, nn.BatchNorm2d)
    gates = form.names_gates and ACT in stated
    set_activation(backbone, stated.get(ACT, form.activation), gates)


def find(
    content: Content,
    forms: Iterable[Format],
    spec: BackboneSpec,
    backbone: Backbone,
    wish: Wish,
) -> Fit:
    """Return where a network lies in a file, by names and shapes alone; see ``fit.search``.

    Raises:
        UserError: Two networks in the file fit and nothing says which is meant.
        PreflightError: None fits, or the file describes another network.
    """
    bare, tried = skeleton(backbone), tuple(forms)
    refuse_unread(tried[0])
    try:
        fit = search(without_numbers(content), tried, spec, bare, wish)
    except PreflightError as error:
        other = next((form for form in marked(content) if form not in tried), None)
        if other is None:
            raise
        text = str(error).removesuffix(".")
        raise PreflightError(
            f"{text}, or leave format= out: by its names it is of format {other.name}."
        ) from error
    try:
        refuse_contradictions(content.facts, fit.form, spec, bare)
        _refuse_others(fit, content, spec)
        _refuse_integers(fit, bare)
    except PreflightError as error:
        raise RefusedFitError(str(error)) from error
    return fit


def skeleton(backbone: Backbone) -> Backbone:
    """Return a copy of a network without numbers, on the meta device."""
    memo: dict[int, object] = {}
    for parameter in backbone.parameters():
        empty = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        memo[id(parameter)] = empty
    for buffer in backbone.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(backbone, memo)


def format_of(checkpoint: Checkpoint, spec: BackboneSpec) -> Format:
    """Return the format of a checkpoint, with the rules by which its weights are used.

    Raises:
        PreflightError: The card of own weights names a format or a position rule that does not
            exist.
    """
    form = FORMATS[checkpoint.format]
    if checkpoint.origin:
        form = _as_first(form, checkpoint)
    return replace(form, positions=positions_of_checkpoint(checkpoint) or spec.position_rule)


def _as_first(form: Format, checkpoint: Checkpoint) -> Format:
    """Return our own format with what the format that the weights came in says of their use."""
    if checkpoint.origin not in FORMATS:
        raise PreflightError(
            f"{checkpoint.source}: its card names the format {checkpoint.origin!r}, which this "
            "version does not read; use the version that wrote it."
        )
    first = FORMATS[checkpoint.origin]
    names = ("norm_eps", "eps_norms", "stated_eps", "batch_norm_eps", "activation", "names_gates")
    return replace(form, **{name: getattr(first, name) for name in names})


def wish_of(checkpoint: Checkpoint) -> Wish:
    """Return what a checkpoint says about where the network lies in its file."""
    return Wish(checkpoint.branch, checkpoint.key or None, checkpoint.prefix or None)


def flatten_file(checkpoint: Checkpoint) -> Content:
    """Return the content of a checkpoint's file.

    Raises:
        PreflightError: It cannot be read.
    """
    assert checkpoint.path is not None
    try:
        config = settings_of(checkpoint.path, FORMATS[checkpoint.format].model_types)
        return flatten({**config, **read_foreign(checkpoint.path)})
    except PreflightError as error:
        text = str(error)
        named = text if str(checkpoint.path) in text else f"{checkpoint.path}: {text}"
        raise PreflightError(named) from error


def without_numbers(content: Content) -> Content:
    """Return a file's content with its tensors on the meta device, where only shapes count."""
    shapes = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        for name, tensor in content.tensors.items()
    }
    return replace(content, tensors=shapes)


def _refuse_others(found: Fit, content: Content, spec: BackboneSpec) -> None:
    """Raise for tensors whose numbers no network computes with; the numbers are not looked at."""
    for name, tensor in content.tensors.items():
        if name.startswith(found.prefix):
            why = _not_weights(tensor)
            if why and name.removeprefix(found.prefix) not in found.dropped:
                raise PreflightError(f"does not fit {spec.name}: {name} is {why}.")


def _not_weights(tensor: Tensor) -> str:
    """Return why a tensor cannot be weights, "" for one that can."""
    if tensor.is_meta:
        return "on the meta device, which keeps shapes without numbers; save the real weights"
    if tensor.layout is not torch.strided:
        return "sparse; save it with .to_dense()"
    if tensor.dtype.is_floating_point and tensor.dtype.itemsize < 2:
        return f"{_dtype(tensor)}, whose scales stand elsewhere; save it in half precision or more"
    if tensor.is_quantized or (tensor.dtype in (torch.int8, torch.uint8) and tensor.ndim):
        return f"{_dtype(tensor)}: quantised weights are not read; save them as floating point"
    if tensor.is_complex():
        return "complex; no network here has complex weights"
    return ""


def _dtype(tensor: Tensor) -> str:
    """Return the name of the type of a tensor of any shape, such as float32."""
    return str(tensor.dtype).removeprefix("torch.")


def _refuse_integers(fit: Fit, backbone: Backbone) -> None:
    """Raise for whole numbers where a network computes with others; numbers are not looked at."""
    wanted = backbone.state_dict()
    for name, tensor in fit.state.items():
        if name in wanted and wanted[name].is_floating_point() != tensor.is_floating_point():
            raise PreflightError(
                f"holds {_dtype(tensor)} in {name.removeprefix(NET)}, where the network computes "
                "in floating point; it is quantised or not weights."
            )


def _refuse_broken(fit: Fit, backbone: Backbone) -> None:
    wanted = backbone.state_dict()
    broken = [k for k, v in fit.state.items() if k in wanted and not torch.isfinite(v).all()]
    if broken:
        raise PreflightError(f"holds NaN or infinity in {first(broken)}; use another file.")
    learned = [n for n, _ in backbone.named_parameters() if n in fit.state]
    if learned and not any(fit.state[name].any() for name in learned):
        raise PreflightError("holds zeros only: it was saved before it was filled.")


def how(fit: Fit, checkpoint: Checkpoint, spec: BackboneSpec) -> Iterable[str]:
    """Yield how a file is read and used: its place in the file, the copy, the normalisation."""
    if fit.form.name == "backbench":
        return
    if fit.prefix:
        yield f"taken from {fit.prefix!r}"
    if fit.branch != "raw":
        yield f"the {fit.branch} copy"
    if fit.others:
        yield f"next to it {first(fit.others, 4)}"
    mean = checkpoint.mean or spec.mean
    std = checkpoint.std or spec.std
    yield f"images normalised with mean {_numbers(mean)} and std {_numbers(std)}"
    if fit.form.positions != BICUBIC:
        yield f"positions {fit.form.positions.about}"


def _numbers(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in values)


def _by_reason(reasons: Mapping[str, str]) -> list[str]:
    """Return "104 tensors (MAE's decoder)" for each reason."""
    counts = Counter(reasons.values())
    return [f"{_count(count, 'tensor')} ({reason})" for reason, count in counts.items()]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"
