"""What a grid of 52 linear heads costs, against one head on the same features in memory.

::

    python benchmarks/perf/heads_speed.py                  # 5 rounds of every shape
    python benchmarks/perf/heads_speed.py 9 mini           # 9 rounds of one

A step is a few epochs of the probe, held-out images included. The sides are

* the grid: 26 rates, each with and without BatchNorm;
* the products alone: what the grid has to multiply in them, training and held-out images,
  with nothing around it;
* one head of the grid;
* one head trained as everybody would: a loader, a linear layer, autograd, SGD.

Every head has weights of its own that see all features twice a step, so the least that 52 heads
can cost is 52 times the arithmetic of one. Where that is little beside what surrounds it, the
grid is as good as free; where it is everything, on CPUs, nothing but fewer heads makes it cheaper.
Measured on two cores, 121 to 141 GFLOP/s in a matrix product:

============  ==========  ==============  ============  =================
shape         the grid    of it products  x one head    x one by autograd
============  ==========  ==============  ============  =================
mini            0.551 s       17 %             4.0             1.2
photographs     0.628 s       52 %             6.8             3.5
ten-classes     0.807 s       71 %             6.8             2.0
imagenet        2.934 s       82 %            40.5            33.0
============  ==========  ==============  ============  =================
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.perf.measure import Candidate, alternate, print_comparison

_ROUNDS = 5
_HEADS = 52
_HERE = "benchmarks.perf.heads_speed"


@dataclass(frozen=True)
class HeadsCase:
    """Of features and classes.

    Attributes:
        images: To train on.
        held: Held out.
        width: Of a feature.
        classes: Of the data.
        batch: Images a step.
        epochs: Of a step of the benchmark.
    """

    images: int
    held: int
    width: int
    classes: int
    batch: int
    epochs: int


# The mini data under vit-nano; a thousand photographs under EfficientNet-Lite; ten classes and a
# part of an epoch of ImageNet under a ViT-B.
SHAPES = {
    "mini": HeadsCase(1_350, 150, 96, 10, 128, 30),
    "photographs": HeadsCase(863, 96, 1_280, 10, 128, 20),
    "ten-classes": HeadsCase(18_432, 2_048, 768, 10, 1_024, 2),
    "imagenet": HeadsCase(2_048, 0, 768, 1_000, 1_024, 1),
}


def main(args: list[str]) -> None:
    """Compare at every shape, or at those named.

    Args:
        args: Number of rounds, then names of shapes; both may be left out.
    """
    rounds = int(args[0]) if args else _ROUNDS
    for name in args[1:] or SHAPES:
        _compare(name, rounds)


def _compare(name: str, rounds: int) -> None:
    grid, products, one, plain = (
        Candidate(f"{_HEADS} heads", f"{_HERE}:probe", (name, str(_HEADS))),
        Candidate(f"products of {_HEADS} heads", f"{_HERE}:products", (name,)),
        Candidate("one head", f"{_HERE}:probe", (name, "1")),
        Candidate("one head, loader and autograd", f"{_HERE}:plain", (name,)),
    )
    comparison = alternate([grid, products, one, plain], rounds=rounds)
    print_comparison(f"{name}: {SHAPES[name]}", comparison)
    share = 100 * comparison.ratio(products.name, grid.name)
    on_cores = 100 * comparison.cpu_ratio(products.name, grid.name)
    print(f"  {share:.0f} % of the grid are its products ({on_cores:.0f} % by time on the cores)")
    for side in (one, plain):
        ratio = comparison.ratio(grid.name, side.name)
        on_cores = comparison.cpu_ratio(grid.name, side.name)
        print(f"  the grid costs {ratio:.2f} times {side.name} ({on_cores:.2f})", flush=True)


def _features(shape: HeadsCase, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = shape.images if seed else shape.held
    labels = torch.randint(shape.classes, (count,), generator=generator)
    return torch.randn(count, shape.width, generator=generator), labels


def probe(name: str, heads: str) -> Callable[[], object]:
    """Return the epochs of a grid as a step.

    Args:
        name: Of the shape.
        heads: How many, half of them behind a BatchNorm, or one alone.
    """
    from backbones.base.monitor import SilentMonitor
    from benchmarks.tasks.linear.probe import Labelled, Probe, make_groups
    from benchmarks.tasks.linear.recipes import GridConfig, LinearConfig, Norm, ProbeScheduleConfig

    shape = SHAPES[name]
    norms: tuple[Norm, ...] = ("none", "batch") if int(heads) > 1 else ("none",)
    rates = tuple(0.001 * 1.3**n for n in range(int(heads) // len(norms)))
    config = LinearConfig(
        grid=GridConfig(("pooled",), norms, rates),
        schedule=ProbeScheduleConfig(epochs=shape.epochs, batch_size=shape.batch),
    )
    groups = make_groups({"pooled": shape.width}, config, shape.classes, seed=0)
    runner = Probe(groups, config, torch.device("cpu"), 0, SilentMonitor())
    (rows, labels), (held, truth) = _features(shape, 1), _features(shape, 0)
    train = Labelled(lambda kind, at: rows[at], labels)
    # One head alone has nobody to be compared with.
    holdout = Labelled(lambda kind, at: held[at], truth) if shape.held and int(heads) > 1 else None
    folder = Path(tempfile.mkdtemp())
    return lambda: runner.train(lambda epoch: train, holdout, folder, {})


def products(name: str) -> Callable[[], None]:
    """Return the grid's products as a step, into memory that is there."""
    shape = SHAPES[name]
    columns = shape.classes * _HEADS // 2
    weights = torch.randn(columns, shape.width)
    rows, held = torch.randn(shape.batch, shape.width), torch.randn(shape.held, shape.width)
    logits, tested = torch.empty(columns, shape.batch), torch.empty(columns, shape.held)
    gradient = torch.empty_like(weights)

    def step() -> None:
        for _ in range(2 * shape.epochs):
            for _ in range(shape.images // shape.batch):
                torch.mm(weights, rows.T, out=logits)
                torch.mm(logits, rows, out=gradient)
            torch.mm(weights, held.T, out=tested)

    return step


def plain(name: str) -> Callable[[], None]:
    """Return the epochs of one head as a step, from the parts that torch offers."""
    from torch.utils.data import DataLoader, TensorDataset

    shape = SHAPES[name]
    data = TensorDataset(*_features(shape, 1))
    head = nn.Linear(shape.width, shape.classes)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        for _ in range(shape.epochs):
            for batch, truth in DataLoader(data, shape.batch, shuffle=True, drop_last=True):
                optimizer.zero_grad()
                torch.autograd.backward(F.cross_entropy(head(batch), truth))
                optimizer.step()

    return step


if __name__ == "__main__":
    main(sys.argv[1:])
