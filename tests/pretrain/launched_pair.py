"""MoCo v3's loss, gradients and statistics: ``python -m tests.pretrain.launched_pair OUT``."""

import sys

import torch

from backbones.base.distributed import (
    join_process_group,
    leave_process_group,
    mean_over_ranks,
    rank,
    world_size,
)
from backbones.catalog import get_spec
from backbones.training.norms import synchronise
from pretrain.catalog import get_recipe
from pretrain.method import get_method


def main(out: str) -> None:
    join_process_group()
    config = get_recipe("mocov3-resnet-nano")
    torch.manual_seed(0)
    objective = get_method("mocov3").build(get_spec(config.backbone), config).double().train()
    if world_size() > 1:
        synchronise(objective)
    generator = torch.Generator().manual_seed(1)
    views = torch.randn(6, 2, 3, 64, 64, generator=generator, dtype=torch.float64)
    share = len(views) // world_size()
    (loss,) = objective({"views": views[rank() * share :][:share]}).values()
    loss.backward()
    found = {"loss": mean_over_ranks(loss.detach())}
    for name, parameter in objective.named_parameters():
        if parameter.grad is not None:
            found[f"gradient of {name}"] = mean_over_ranks(parameter.grad)
    found |= dict(objective.named_buffers())
    if rank() == 0:
        torch.save(found, out)
    leave_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
