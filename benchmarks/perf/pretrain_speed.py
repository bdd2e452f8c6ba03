"""Pretraining steps of MAE and LoMaR, ViT-B/16, beside the matrix product of the same moment.

::

    python -m benchmarks.perf.pretrain_speed                      # 5 rounds of every case
    python -m benchmarks.perf.pretrain_speed 9 mae-448 lomar-448  # 9 rounds of two

A step clears the gradients and does forward, backward and AdamW, on images that are there already.
The cases run in turn, so that their ratios hold whatever else the machine does. "Share" is the
arithmetic of the step's own matrix products, counted, over its time and the rate of a 4096^3
matrix product. Images/s of the official code need a measurement of it on the same machine; per unit
of matrix product, its own arithmetic at its own share is what ``OFFICIAL`` says.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.perf.measure import Comparison, Side, alternate
from pretrain.config import PretrainConfig
from pretrain.method import Batch, Objective

# Recipe, image side, images a step.
CASES = {
    "mae-224": ("mae-vit-b16-800ep", 224, 4),
    "mae-448": ("mae-vit-b16-800ep", 448, 4),
    "lomar-224": ("lomar-vit-b16-400ep", 224, 4),
    "lomar-448": ("lomar-vit-b16-448px-400ep", 448, 4),
}

# facebookresearch/mae efb2a80 and junchen14/LoMaR d9ca9c8 as published, float32 on two CPU cores,
# same batch and memory allocator: GFLOP an image and share of the matrix product, measured so once.
OFFICIAL = {
    "mae-224": (58.5, 0.81),
    "mae-448": (257.7, 0.84),
    "lomar-224": (104.8, 0.94),
    "lomar-448": (106.1, 0.88),
}
_ROUNDS = 5
_HERE = "benchmarks.perf.pretrain_speed"


def main(args: list[str]) -> None:
    """Measure every case, or those named.

    Args:
        args: Number of rounds, then names of cases, "bf16" among them for autocast; all may be
            left out.
    """
    rounds = int(args[0]) if args else _ROUNDS
    dtype = "bfloat16" if "bf16" in args or torch.cuda.is_available() else "float32"
    names = [name for name in args[1:] if name != "bf16"] or list(CASES)
    sides = [Side(name, f"{_HERE}:step_of", (name, dtype)) for name in names]
    comparison = alternate(sides, rounds=rounds, dtype=dtype)
    for name in names:
        print(_line(name, comparison, official=dtype == "float32"), flush=True)
    for fast in names:
        slow = fast.replace("lomar", "mae")
        if slow != fast and slow in names:
            ratio = comparison.ratio(slow, fast)
            print(f"{slow} takes {ratio:.2f} times {fast}; arithmetic: {_ratio(slow, fast):.2f}")


def step_of(case: str, dtype: str) -> Callable[[], object]:
    """Return the step of a case, built with fresh weights."""
    from pretrain.optim import make_optimizer, parameter_groups, set_rates

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    objective, config = _objective(case)
    objective.to(device)
    batch = {name: value.to(device) for name, value in _batch(case, config).items()}
    optimizer = make_optimizer(parameter_groups(objective, config.optim), config.optim)
    set_rates(optimizer, config.optim.base_lr, config.optim.weight_decay)
    mixed = partial(torch.autocast, device.type, torch.bfloat16, enabled=dtype == "bfloat16")

    def step() -> None:
        optimizer.zero_grad()
        with mixed():
            (loss,) = objective(batch).values()
        loss.backward()
        optimizer.step()

    return step


def gflops(case: str) -> float:
    """Count the matrix products of a step, forward and backward, on shapes alone; GFLOP."""
    with torch.device("meta"):
        objective, config = _objective(case)
    batch = {name: value.to("meta") for name, value in _batch(case, config).items()}
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        (loss,) = objective(batch).values()
        loss.backward()
    return float(counter.get_total_flops()) / 1e9


def _objective(case: str) -> tuple[Objective, PretrainConfig]:
    from backbones.catalog import get_spec
    from pretrain.catalog import get_recipe
    from pretrain.method import get_method

    recipe, size, _ = CASES[case]
    config = get_recipe(recipe)
    config = replace(config, data=replace(config.data, img_size=size))
    return get_method(config.method).build(get_spec(config.backbone), config), config


def _batch(case: str, config: PretrainConfig) -> Batch:
    """Return random images with draws as the method's views make them."""
    from PIL import Image

    from backbones.catalog import get_spec
    from pretrain.method import get_method

    _, size, count = CASES[case]
    generator = torch.Generator().manual_seed(0)
    views = get_method(config.method).views(get_spec(config.backbone), config)
    made = [views(Image.new("RGB", (size, size)), generator) for _ in range(count)]
    batch = {name: torch.stack([one[name] for one in made]) for name in made[0]}
    return batch | {"image": torch.randn(count, 3, size, size, generator=generator)}


def _line(name: str, comparison: Comparison, *, official: bool) -> str:
    seconds, count = comparison.seconds(name), CASES[name][2]
    peak = sorted(comparison.matrix_gflops)[len(comparison.matrix_gflops) // 2]
    arithmetic = gflops(name)
    counted = f"{len(comparison.quiet_rounds)}/{len(comparison.rounds)} rounds"
    line = (
        f"{name:<10} {counted}, {seconds:7.3f} s a step, {count / seconds:7.2f} images/s, "
        f"{comparison.peak_gib(name):.2f} GiB; {arithmetic / count:.1f} GFLOP/image, share "
        f"{arithmetic / seconds / peak:.2f} of {peak:.0f} GFLOP/s"
    )
    if official:
        theirs, share = OFFICIAL[name]
        line += f"; {count / seconds * theirs / (share * peak):.2f} times the official images/s"
    return line


def _ratio(slow: str, fast: str) -> float:
    return gflops(slow) / CASES[slow][2] / (gflops(fast) / CASES[fast][2])


if __name__ == "__main__":
    main(sys.argv[1:])
