"""A training step in plain form: torch's AdamW as it comes, clipping tensor by tensor."""

from collections.abc import Callable
from typing import Any

import torch

from backbones.training.objective import Batch, Objective
from benchmarks.perf.plain_esvit import PlainEsViT
from benchmarks.perf.plain_mae import PlainMAE
from pretrain.config import PretrainConfig

PLAIN: dict[str, Callable[[Any, PretrainConfig], Any]] = {"mae": PlainMAE, "esvit": PlainEsViT}


def plain_step(objective: Objective, config: PretrainConfig, batch: Batch) -> Callable[[], float]:
    """Return the step of an objective's plain form; a call returns the loss before it.

    Args:
        objective: Gives its weights away; of a method in ``PLAIN``.
        config: Its recipe.
        batch: What every step sees.
    """
    plain = PLAIN[config.method](objective, config)
    trained = [p for p in plain.parameters() if p.requires_grad]
    decay = config.optim.weight_decay
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.optim.base_lr, betas=config.optim.betas)

    def step() -> float:
        optimizer.zero_grad()
        loss = plain(batch)
        value = float(loss.detach())
        loss.backward()
        if config.optim.clip == "tensor":
            for parameter in trained:
                torch.nn.utils.clip_grad_norm_([parameter], config.optim.clip_norm)
        optimizer.step()
        plain.after_update()
        return value

    return step
