"""What is done to an objective before the loop calls it."""

import torch
from torch import nn

from backbones.base.devices import wrap
from backbones.base.distributed import world_size
from backbones.training.config import RuntimeConfig
from backbones.training.draws import Draws
from backbones.training.norms import recompute, synchronise
from backbones.training.objective import Objective


def draws_of(objective: Objective, by_recipe: int, held: int, device: torch.device) -> Draws | None:
    """Return what forwards draw from, None where torch's own generators will do.

    Args:
        objective: Is told of it.
        by_recipe: Images of a micro-batch of the recipe.
        held: Images that a device really holds at once.
        device: Where the objective is.
    """
    objective.part = by_recipe
    if held == by_recipe:
        return None
    objective.draws = Draws(by_recipe, held, device)
    objective.draws.serve(objective)
    return objective.draws


def made_ready(objective: Objective, runtime: RuntimeConfig, device: torch.device) -> nn.Module:
    """Return the objective as the loop calls it.

    Args:
        objective: On ``device``.
        runtime: Whether to recompute activations, and to compile.
        device: Where it is.
    """
    if runtime.activation_checkpointing:
        recompute(objective)
    if world_size() > 1 and objective.shares_statistics:
        synchronise(objective)
    if runtime.compile:
        objective.compile()
    return wrap(objective, device)
