"""Official full checkpoints, into and out of an objective: a renaming, and nothing left over."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from backbones.errors import PreflightError

Rename = Callable[[str], str]


def weights_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of an official file's content: under "model", or bare."""
    state = content.get("model", content)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def to_official(module: nn.Module, rename: Rename) -> dict[str, Tensor]:
    """Return the state of ``module`` under official names."""
    return {rename(name): tensor for name, tensor in module.state_dict().items()}


def from_official(module: nn.Module, state: Mapping[str, Tensor], rename: Rename) -> None:
    """Fill ``module`` from a state with official names, every tensor.

    Args:
        module: The objective.
        state: By official name.
        rename: Official name of one of the module's own.

    Raises:
        PreflightError: A tensor is missing, left over, or of another shape.
    """
    own = {rename(name): name for name in module.state_dict()}
    wanted = module.state_dict()
    missing = sorted(own.keys() - state.keys())
    spare = sorted(state.keys() - own.keys())
    shapes = [
        f"{name} is {tuple(tensor.shape)} in it and {tuple(wanted[own[name]].shape)} here"
        for name, tensor in state.items()
        if name in own and tensor.shape != wanted[own[name]].shape
    ]
    found = [
        f"{what} {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
        for what, names in (("lacks", missing), ("has no use for", spare), ("misfits:", shapes))
        if names
    ]
    if found:
        raise PreflightError(
            f"The weights do not fit {type(module).__name__}: it {'; '.join(found)}. Take the "
            "recipe of the model that wrote them."
        )
    module.load_state_dict({own[name]: tensor for name, tensor in state.items()})
