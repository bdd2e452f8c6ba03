"""Pretraining steps beside the matrix product of the same moment: MAE, LoMaR, DINO, EsViT.

::

    python -m benchmarks.perf.pretrain_speed                      # 5 rounds of every case
    python -m benchmarks.perf.pretrain_speed 9 mae-448 lomar-448  # 9 rounds of two
    python -m benchmarks.perf.pretrain_speed 5 esvit-views esvit-regions
    python -m benchmarks.perf.pretrain_speed 5 mae-224 plain      # beside its plain form

A step clears the gradients and does forward, backward, clipping, AdamW and what follows (teacher,
centres), on images that are there already. The cases run in turn, so that their ratios hold
whatever else the machine does. "Share" is the arithmetic of the step's own matrix products,
counted, over its time and the rate of a 4096^3 matrix product. Images/s of the official code need a
measurement of it on the same machine; per unit of matrix product, its own arithmetic at its own
share is what ``Case.official`` says. What share is possible changes with the machine's moment; so
"plain" adds the same method of timm's blocks and plain operators, step by step in turn.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from backbones.training.objective import Batch, Moment, Objective
from benchmarks.perf.measure import Alternation, Candidate, alternate
from pretrain.config import PretrainConfig


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        recipe: Of the objective.
        size: Candidate of the (global) crop in pixels.
        count: Images a step.
        backbone: Other than the recipe's.
        official: GFLOP an image and share of the matrix product of the official code as
            published, float32 on two CPU cores, same memory allocator, measured so once; at the
            same batch, EsViT's at 4.
        fixed_shapes: Whether the arithmetic can be counted on shapes alone. Self-distillation
            leaves out teacher rows that nothing matches.
    """

    recipe: str
    size: int
    count: int
    backbone: str = ""
    official: tuple[float, float] | None = None
    fixed_shapes: bool = True


# facebookresearch/mae efb2a80, junchen14/LoMaR d9ca9c8, microsoft/esvit 2d6becd.
CASES = {
    "mae-224": Case("mae-vit-b16-800ep", 224, 4, official=(58.5, 0.81)),
    "mae-448": Case("mae-vit-b16-800ep", 448, 4, official=(257.7, 0.84)),
    "lomar-224": Case("lomar-vit-b16-400ep", 224, 4, official=(104.8, 0.94)),
    "lomar-448": Case("lomar-vit-b16-448px-400ep", 448, 4, official=(106.1, 0.88)),
    "dino-vit-s": Case("dino-vit-s16-100ep", 224, 8, fixed_shapes=False),
    "esvit-views": Case(
        "esvit-views-swin-t-300ep", 224, 8, official=(126.2, 0.81), fixed_shapes=False
    ),
    "esvit-regions": Case("esvit-swin-t-300ep", 224, 8, official=(154.3, 0.78), fixed_shapes=False),
    "esvit-vit-views": Case("esvit-views-swin-t-300ep", 224, 8, "vit-s16", fixed_shapes=False),
    "esvit-vit-regions": Case("esvit-swin-t-300ep", 224, 8, "vit-s16", fixed_shapes=False),
}
# Of which there is a plain form.
PLAIN_CASES = ("mae-224", "mae-448", "esvit-views", "esvit-regions")
# Slow and fast, of one batch size, whose ratio is of interest.
RATIOS = (
    ("mae-224", "lomar-224"),
    ("mae-448", "lomar-448"),
    ("esvit-regions", "esvit-views"),
    ("esvit-vit-regions", "esvit-vit-views"),
)
_ROUNDS = 5
_HERE = "benchmarks.perf.pretrain_speed"


def main(args: list[str]) -> None:
    """Measure every case, or those named.

    Args:
        args: Number of rounds, then names of cases, "bf16" among them for autocast, "plain" for
            the plain form of each (on the CPU, of MAE and EsViT on Swin); all may be left out.
    """
    rounds = int(args[0]) if args else _ROUNDS
    dtype = "bfloat16" if "bf16" in args or torch.cuda.is_available() else "float32"
    names = [name for name in args[1:] if name not in ("bf16", "plain")] or list(CASES)
    sides = [Candidate(name, f"{_HERE}:step_of", (name, dtype)) for name in names]
    compared = [name for name in names if "plain" in args and name in PLAIN_CASES]
    sides += [Candidate(_plain(name), f"{_HERE}:plain_step_of", (name,)) for name in compared]
    comparison = alternate(sides, rounds=rounds, dtype=dtype)
    for name in names:
        print(_line(name, comparison, official=dtype == "float32"), flush=True)
    for name in compared:
        print(
            f"{_plain(name)} takes {comparison.ratio(_plain(name), name):.2f} times {name}, peak "
            f"memory {comparison.peak_gib(_plain(name)) / comparison.peak_gib(name):.2f} times"
        )
    for slow, fast in RATIOS:
        if slow in names and fast in names:
            memory = comparison.peak_gib(slow) / comparison.peak_gib(fast)
            print(
                f"{slow} takes {comparison.ratio(slow, fast):.2f} times {fast}; arithmetic: "
                f"{_ratio(slow, fast):.2f}, peak memory: {memory:.2f}"
            )


def step_of(case: str, dtype: str) -> Callable[[], object]:
    """Return the step of a case, built with fresh weights."""
    from backbones.training.optim import clip_gradients, make_optimizer, parameter_groups, set_rates

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    objective, config = _objective(case)
    objective.to(device)
    batch = {name: value.to(device) for name, value in _batch(case, config).items()}
    optimizer = make_optimizer(parameter_groups(objective, config.optim), config.optim)
    set_rates(optimizer, config.optim.base_lr, config.optim.weight_decay)
    mixed = partial(torch.autocast, device.type, torch.bfloat16, enabled=dtype == "bfloat16")
    # Far enough into a run that nothing is frozen any more.
    moment = Moment(step=1, num_steps=2, epoch=config.schedule.epochs / 2)

    def step() -> None:
        optimizer.zero_grad()
        objective.begin_step(moment)
        with mixed():
            loss = torch.stack(list(objective(batch).values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        objective.before_update(moment)
        clip_gradients(optimizer, config.optim)
        optimizer.step()
        objective.after_update(moment)

    return step


def plain_step_of(case: str) -> Callable[[], object]:
    """Return the step of a case's plain form, built with fresh weights, float32 on the CPU."""
    from benchmarks.perf.plain_pretraining import plain_step

    objective, config = _objective(case)
    return plain_step(objective, config, _batch(case, config))


def gflops(case: str) -> float:
    """Count the matrix products of a step, forward and backward; GFLOP.

    On shapes alone where these are known beforehand, else on one real image.
    """
    device = "meta" if CASES[case].fixed_shapes else "cpu"
    with torch.device(device):
        objective, config = _objective(case)
    images = CASES[case].count if device == "meta" else 1
    batch = {name: value[:images].to(device) for name, value in _batch(case, config).items()}
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        torch.stack(list(objective(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops()) / 1e9 * CASES[case].count / images


def _objective(case: str) -> tuple[Objective, PretrainConfig]:
    from backbones.catalog import get_spec
    from pretrain.catalog import get_recipe
    from pretrain.method import get_method

    config = get_recipe(CASES[case].recipe)
    config = replace(config, data=replace(config.data, img_size=CASES[case].size))
    backbone = CASES[case].backbone or config.backbone
    return get_method(config.method).build(get_spec(backbone), config), config


def _batch(case: str, config: PretrainConfig) -> Batch:
    """Return random images with draws as the method's views make them."""
    from PIL import Image

    from backbones.catalog import get_spec
    from pretrain.method import get_method

    size, count = CASES[case].size, CASES[case].count
    generator = torch.Generator().manual_seed(0)
    views = get_method(config.method).views(get_spec(config.backbone), config)
    made = [views(Image.new("RGB", (size, size)), generator) for _ in range(count)]
    batch = {name: torch.stack([one[name] for one in made]) for name in made[0]}
    return {
        name: torch.randn(value.shape, generator=generator) if value.dtype == torch.uint8 else value
        for name, value in batch.items()
    }


def _line(name: str, comparison: Alternation, *, official: bool) -> str:
    seconds, count = comparison.seconds(name), CASES[name].count
    peak = sorted(comparison.matrix_gflops)[len(comparison.matrix_gflops) // 2]
    arithmetic = gflops(name)
    counted = f"{len(comparison.quiet_rounds)}/{len(comparison.rounds)} rounds"
    line = (
        f"{name:<17} {counted}, {seconds:7.3f} s a step, {count / seconds:7.2f} images/s, "
        f"{comparison.peak_gib(name):.2f} GiB; {arithmetic / count:.1f} GFLOP/image, share "
        f"{arithmetic / seconds / peak:.2f} of {peak:.0f} GFLOP/s"
    )
    published = CASES[name].official
    if official and published:
        theirs, share = published
        line += f"; {count / seconds * theirs / (share * peak):.2f} times the official images/s"
    return line


def _plain(name: str) -> str:
    return f"plain {name}"


def _ratio(slow: str, fast: str) -> float:
    return gflops(slow) / CASES[slow].count / (gflops(fast) / CASES[fast].count)


if __name__ == "__main__":
    main(sys.argv[1:])
