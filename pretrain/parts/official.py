"""Official full checkpoints, into and out of an objective: a renaming, and nothing left over."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from backbones.base.errors import PreflightError

# The official name of one of the module's own tensors; None for one that official files lack.
Rename = Callable[[str], str | None]


def weights_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of an official file's content: under "model", or bare."""
    state = content.get("model", content)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def to_official(module: nn.Module, rename: Rename) -> dict[str, Tensor]:
    """Return the state of ``module`` under official names."""
    state = module.state_dict()
    return {official: state[name] for name, official in _official_names(module, rename).items()}


def from_official(module: nn.Module, state: Mapping[str, Tensor], rename: Rename) -> None:
    """Fill ``module`` from a state with official names, every tensor that has one.

    Args:
        module: The objective.
        state: By official name.
        rename: Official name of one of the module's own.

    Raises:
        PreflightError: A tensor is missing, left over, of another shape or kind of number, or holds
            NaN or infinity.
    """
    own = {official: name for name, official in _official_names(module, rename).items()}
    # Trainers also save counters and settings there.
    state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    wanted = module.state_dict()
    missing = sorted(own.keys() - state.keys())
    spare = sorted(state.keys() - own.keys())
    shapes = [
        f"{name} is {tuple(tensor.shape)} in it and {tuple(wanted[own[name]].shape)} here"
        for name, tensor in state.items()
        if name in own and tensor.shape != wanted[own[name]].shape
    ]
    shapes += [
        f"{name} is {str(tensor.dtype).removeprefix('torch.')} in it"
        for name, tensor in state.items()
        if name in own and tensor.is_floating_point() != wanted[own[name]].is_floating_point()
    ]
    found = [
        f"{what} {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
        for what, names in (("lacks", missing), ("has no use for", spare), ("misfits:", shapes))
        if names
    ]
    if found:
        raise PreflightError(
            f"The weights do not fit {type(module).__name__}: the file {'; '.join(found)}. Take "
            "the recipe of the model that wrote them."
        )
    broken = [
        n for n, tensor in state.items() if not tensor.is_meta and not tensor.isfinite().all()
    ]
    if broken:
        raise PreflightError(f"The file holds NaN or infinity in {broken[0]}; use another file.")
    # Not strict: what has no official name is left as it is.
    module.load_state_dict({own[name]: tensor for name, tensor in state.items()}, strict=False)


def _official_names(module: nn.Module, rename: Rename) -> dict[str, str]:
    named = {name: rename(name) for name in module.state_dict()}
    return {name: official for name, official in named.items() if official is not None}
