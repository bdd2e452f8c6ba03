"""The proof that a backbone keeps its contract, in half a minute: ``run.py check NAME``."""

import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from backbones.base.errors import UserError
from backbones.base.wording import first_of
from backbones.check_result import BrokenError, CheckResult, attempt
from backbones.checkpoint import Checkpoint
from backbones.features import Backbone, Features
from backbones.spec import BackboneSpec, BuildOptions
from backbones.timm_networks.backbone import TimmBackbone
from backbones.timm_networks.positions import resizes_itself
from backbones.vit.positions_rule import ANTIALIASED
from backbones.weights.files import save_weights
from backbones.weights.loading import Coverage, build_backbone

# Height and width of the images whose shapes are checked; the last divides by nothing.
SIZES = ((224, 224), (512, 512), (201, 150))

# Float32 sums of another order differ by this, relative to the largest value.
_TOLERANCE = 1e-4


class _Subject:
    """A backbone under check, built when first needed."""

    def __init__(self, spec: BackboneSpec, checkpoint: Checkpoint) -> None:
        self.spec = spec
        self.checkpoint = checkpoint

    def build(self, options: BuildOptions, seed: int = 0) -> tuple[Backbone, Coverage]:
        return build_backbone(self.spec, self.checkpoint, options, seed)

    @cached_property
    def built(self) -> tuple[Backbone, Coverage]:
        return self.build(BuildOptions(self.spec.img_size))

    @property
    def backbone(self) -> Backbone:
        return self.built[0]

    @cached_property
    def images(self) -> Tensor:
        """Two small images that divide, or two of the size that the network is built for."""
        side = 2 * max(self.spec.strides[-1], 16)
        small = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        try:
            _features(self.backbone, small)
        except UserError:
            return nn.functional.interpolate(small, size=(self.spec.img_size,) * 2)
        return small


def check_backbone(spec: BackboneSpec, checkpoint: Checkpoint) -> Iterator[CheckResult]:
    """Check a backbone, one result after another.

    Args:
        spec: The backbone.
        checkpoint: Its weights, or fresh ones.

    Yields:
        The checks' results; none is left out because another failed, unless the backbone cannot be
        built at all.
    """
    subject = _Subject(spec, checkpoint)
    for name, check in _CHECKS.items():
        result = attempt(name, partial(check, subject))
        yield result
        if name == "weights" and not result.passed:
            return


def _weights(subject: _Subject) -> str:
    return subject.built[1].sentence()


def _declared(subject: _Subject) -> str:
    spec, backbone = subject.spec, subject.backbone
    for what in ("strides", "channels", "num_layers"):
        declared, found = getattr(spec, what), getattr(backbone, what)
        if declared != found:
            raise BrokenError(f"the spec declares {what} {declared}, the network has {found}")
    plain = len(spec.strides) == 1
    if plain != (spec.layout == "plain"):
        raise BrokenError(f"layout {spec.layout!r} with {len(spec.strides)} strides")
    ruled_by_timm = isinstance(backbone, TimmBackbone) and resizes_itself(backbone.net)
    if ruled_by_timm and spec.position_rule != ANTIALIASED:
        raise BrokenError(
            f"the spec declares positions {spec.position_rule.about}, timm's ViT resizes them "
            f"{ANTIALIASED.about}; declare position_rule=ANTIALIASED"
        )
    return f"strides {spec.strides}, channels {spec.channels}, {spec.num_layers} layers"


def _shapes(subject: _Subject) -> str:
    """Run without numbers (meta device), which costs nothing at any size."""
    side = subject.spec.img_size
    sizes = ((side, side), (2 * side, 2 * side)) if subject.spec.fixed_size else SIZES
    for size in sizes:
        options = BuildOptions(img_size=size[0] if subject.spec.fixed_size else side)
        try:
            with torch.device("meta"):
                backbone = subject.spec.build(options).eval()
                maps = backbone.forward_maps(torch.empty(2, 3, *size))
                pooled = backbone(torch.empty(2, 3, *size)).pooled
        except UserError as error:
            if subject.spec.fixed_size:
                raise
            raise BrokenError(
                f"{str(error).removesuffix('.')}; declare fixed_size=True in its spec, and every "
                "task and detector builds it for the size of its images"
            ) from error
        _check_maps(subject.spec, Features(pooled, maps), size)
    return ", ".join(f"{height} x {width}" for height, width in sizes)


def _odd_sizes(subject: _Subject) -> str:
    """Run with numbers on an image that divides by nothing."""
    if subject.spec.fixed_size:
        return "runs only at the size that it is built for"
    height, width = (side - 7 for side in subject.images.shape[-2:])
    images = subject.images[..., :height, : width - 4]
    features = _features(subject.backbone, images)
    _check_maps(subject.spec, features, (height, width - 4))
    if not all(torch.isfinite(m).all() for m in (*features.maps, features.pooled)):
        raise BrokenError(f"NaN or infinity on an image of {height} x {width - 4}")
    return f"{height} x {width - 4} runs, its maps cover it"


def _maps_alone(subject: _Subject) -> str:
    backbone = subject.backbone.eval()
    with torch.no_grad():
        alone = backbone.forward_maps(subject.images)
    for one, other in zip(alone, _features(backbone, subject.images).maps, strict=True):
        _compare(one, other, "maps of forward_maps and of forward")
    return "forward_maps returns forward's maps"


def _determinism(subject: _Subject) -> str:
    backbone, _ = subject.build(BuildOptions(subject.spec.img_size, drop_path=0.5))
    first, second = (_features(backbone, subject.images) for _ in range(2))
    if not torch.equal(first.pooled, second.pooled):
        raise BrokenError("two evaluations of the same images differ; something stays random")
    return "two evaluations agree to the bit, with drop path 0.5"


def _batch_size(subject: _Subject) -> str:
    together = _features(subject.backbone, subject.images)
    alone = _features(subject.backbone, subject.images[1:])
    _compare(alone.pooled[0], together.pooled[1], "pooled of an image alone and in a batch")
    for one, other in zip(alone.maps, together.maps, strict=True):
        _compare(one[0], other[1], "maps of an image alone and in a batch")
    return "an image alone and in a batch of two agree"


def _gradients(subject: _Subject) -> str:
    backbone = subject.backbone.train()
    backbone.zero_grad()
    torch.autograd.backward(_energy(backbone.forward_maps(subject.images)))
    from_maps = {name for name, p in backbone.named_parameters() if p.grad is not None}
    features = backbone(subject.images)
    torch.autograd.backward((features.pooled**2).mean())
    trainable = {name for name, p in backbone.named_parameters() if p.requires_grad}
    gradients = {n: p.grad for n, p in backbone.named_parameters() if p.grad is not None}
    broken = {name for name, g in gradients.items() if not torch.isfinite(g).all()}
    backbone.zero_grad()
    if missed := trainable - set(gradients):
        raise BrokenError(f"no gradient reaches {first_of(sorted(missed))}")
    if broken:
        raise BrokenError(f"NaN or infinity in the gradient of {first_of(sorted(broken))}")
    rest = set(gradients) - from_maps
    beside = f"; {first_of(sorted(rest))} only from pooled" if rest else ""
    return f"all {len(gradients)} parameters{beside}"


def _layer_ids(subject: _Subject) -> str:
    backbone = subject.backbone
    ids = {name: backbone.layer_id(name) for name, _ in backbone.named_parameters()}
    top = backbone.num_layers + 1
    outside = {name for name, layer in ids.items() if not 0 <= layer <= top}
    if outside:
        raise BrokenError(f"layers outside 0 to {top}: {first_of(sorted(outside))}")
    if idle := set(range(top)) - set(ids.values()):
        raise BrokenError(f"no parameter has the layers {sorted(idle)}")
    on_maps, pooling = _in_order_of_execution(subject)
    executed = [ids[name] for name in on_maps]
    if executed != sorted(executed):
        raise BrokenError("layers fall somewhere along the forward pass")
    if below := {name for name in pooling if ids[name] < top}:
        raise BrokenError(
            f"only pooled depends on {first_of(sorted(below))}, whose layer should be {top}"
        )
    if unknown := backbone.no_weight_decay() - set(ids):
        raise BrokenError(f"no_weight_decay names no parameter: {first_of(sorted(unknown))}")
    return f"{len(ids)} parameters in layers 0 to {max(ids.values())}, rising"


def _recomputation(subject: _Subject) -> str:
    backbone = subject.backbone
    try:
        backbone.set_activation_checkpointing(True)
    except (UserError, NotImplementedError) as error:
        return f"not offered: {error}"
    # Training mode, in which alone some networks can recompute; the state undoes what BatchNorm
    # keeps of a forward pass, the seed draws the same dropout.
    state = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    recomputed = _gradient(backbone, subject.images)
    backbone.load_state_dict(state)
    backbone.set_activation_checkpointing(False)
    plain = _gradient(backbone, subject.images)
    backbone.load_state_dict(state)
    for name, gradient in recomputed.items():
        _compare(gradient, plain[name], f"gradient of {name} with and without recomputation")
    return "gradients agree with and without"


def _round_trip(subject: _Subject) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        saved = save_weights(subject.backbone, path, subject.checkpoint)
        again = _Subject(subject.spec, replace(saved, source="the saved copy"))
        backbone, coverage = again.build(BuildOptions(subject.spec.img_size), seed=1)
    before = _features(subject.backbone, subject.images)
    after = _features(backbone, subject.images)
    if not torch.equal(before.pooled, after.pooled):
        raise BrokenError("features differ after saving and loading; some state is not saved")
    return f"{coverage.loaded} tensors saved and loaded, same features"


_CHECKS: dict[str, Callable[[_Subject], str]] = {
    "weights": _weights,
    "declared facts": _declared,
    "shapes": _shapes,
    "odd sizes": _odd_sizes,
    "maps alone": _maps_alone,
    "determinism": _determinism,
    "batch size": _batch_size,
    "gradients": _gradients,
    "layer ids": _layer_ids,
    "recomputation": _recomputation,
    "save and load": _round_trip,
}


def _features(backbone: Backbone, images: Tensor) -> Features:
    """Return the features of (B, 3, H, W) images in evaluation mode, without gradients."""
    training = backbone.training
    backbone.eval()
    with torch.no_grad():
        features: Features = backbone(images)
    backbone.train(training)
    return features


def _check_maps(spec: BackboneSpec, features: Features, size: tuple[int, int]) -> None:
    height, width = size
    wanted = [
        (channels, -(-height // stride), -(-width // stride))
        for stride, channels in zip(spec.strides, spec.channels, strict=True)
    ]
    found = [tuple(m.shape[1:]) for m in features.maps]
    if found != wanted:
        raise BrokenError(f"maps of {height} x {width} are {found}, declared {wanted}")
    if features.pooled.ndim != 2:
        raise BrokenError(f"pooled has shape {tuple(features.pooled.shape)}, not (B, D)")


def _in_order_of_execution(subject: _Subject) -> tuple[list[str], list[str]]:
    """Return parameter names in the order in which their modules first run.

    Returns:
        Those that the maps need, and those that only ``pooled`` needs. Where there are no maps, all
        count as needed.
    """
    names: list[str] = []
    hooks = []
    for prefix, module in subject.backbone.named_modules():
        own = [f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)]
        if own and prefix:
            hooks.append(module.register_forward_pre_hook(lambda _, __, own=own: names.extend(own)))
    try:
        with torch.no_grad():
            subject.backbone.eval().forward_maps(subject.images)
    except UserError:
        names.clear()
    needed = list(dict.fromkeys(names))
    names.clear()
    _features(subject.backbone, subject.images)
    for hook in hooks:
        hook.remove()
    found = list(dict.fromkeys(names))
    if not needed:
        return found, []
    return needed, [name for name in found if name not in set(needed)]


def _gradient(backbone: Backbone, images: Tensor) -> dict[str, Tensor]:
    """Return gradients of a fixed function of the maps of (B, 3, H, W) images, in training mode."""
    backbone.train().zero_grad()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        torch.autograd.backward(_energy(backbone.forward_maps(images)))
    return {n: p.grad.clone() for n, p in backbone.named_parameters() if p.grad is not None}


def _energy(maps: tuple[Tensor, ...]) -> Tensor:
    """Return the sum, (), over (B, C, rows, columns) maps of their mean squares."""
    return torch.stack([(m * m).mean() for m in maps]).sum()


def _compare(one: Tensor, other: Tensor, what: str) -> None:
    """Raise if two tensors of the same shape differ by more than the tolerance."""
    scale = max(float(other.abs().max()), 1e-12)
    difference = float((one - other).abs().max()) / scale
    if not difference <= _TOLERANCE:
        raise BrokenError(f"{what} differ by {difference:.1e} of the largest value")
