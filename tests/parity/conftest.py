"""A vision transformer from its formulas: one sequence, one head, one pair at a time."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def norm(x: Tensor, w: Weights, name: str) -> Tensor:
    rows = []
    for row in x:
        mean = row.sum() / len(row)
        var = ((row - mean) ** 2).sum() / len(row)
        rows.append((row - mean) / torch.sqrt(var + 1e-6))
    return torch.stack(rows) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def piece(offset: int) -> int:
    """iRPE's index of a signed offset, as the official function returns it."""
    return int(math.copysign({0: 0, 1: 1, 2: 2, 3: 2}.get(abs(offset), 3), offset))


def bucket(i: int, j: int, columns: int, num_prefix: int) -> int:
    if i < num_prefix or j < num_prefix:
        return 49
    i, j = i - num_prefix, j - num_prefix
    down = i // columns - j // columns
    right = i % columns - j % columns
    return (piece(down) + 3) * 7 + piece(right) + 3


def attention(
    x: Tensor, w: Weights, name: str, heads: int, columns: int = 0, num_prefix: int = 1
) -> Tensor:
    dim = x.shape[1]
    size = dim // heads
    q, k, v = linear(x, w, f"{name}.qkv").split(dim, dim=1)
    outs = []
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        logits = q[:, part] @ k[:, part].T * size**-0.5
        if f"{name}.rpe_k.lookup_table_weight" in w:
            table = w[f"{name}.rpe_k.lookup_table_weight"][0]
            extra = [
                [q[i, part] @ table[:, bucket(i, j, columns, num_prefix)] for j in range(len(x))]
                for i in range(len(x))
            ]
            logits = logits + torch.stack([torch.stack(row) for row in extra])
        shares = torch.exp(logits - logits.max(dim=1, keepdim=True).values)
        shares = shares / shares.sum(dim=1, keepdim=True)
        outs.append(shares @ v[:, part])
    return linear(torch.cat(outs, dim=1), w, f"{name}.proj")


def blocks(x: Tensor, w: Weights, name: str, depth: int, heads: int, columns: int = 0) -> Tensor:
    for i in range(depth):
        stem = f"{name}.{i}"
        x = x + attention(norm(x, w, f"{stem}.norm1"), w, f"{stem}.attn", heads, columns)
        hidden = gelu(linear(norm(x, w, f"{stem}.norm2"), w, f"{stem}.mlp.fc1"))
        x = x + linear(hidden, w, f"{stem}.mlp.fc2")
    return x


def patch(image: Tensor, row: int, column: int, side: int) -> Tensor:
    """One patch's pixels: row, then column, then channel, the channel fastest."""
    return torch.stack(
        [
            image[c, row * side + y, column * side + x]
            for y in range(side)
            for x in range(side)
            for c in range(3)
        ]
    )


def project(image: Tensor, row: int, column: int, w: Weights, name: str) -> Tensor:
    """The patch convolution at one place."""
    kernel = w[f"{name}.weight"]
    side = kernel.shape[-1]
    area = image[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
    return (kernel * area).sum(dim=(1, 2, 3)) + w[f"{name}.bias"]


def normalised(pixels: Tensor) -> Tensor:
    mean = pixels.sum() / len(pixels)
    var = ((pixels - mean) ** 2).sum() / (len(pixels) - 1)
    return (pixels - mean) / torch.sqrt(var + 1e-6)


def sincos(dim: int, rows: int, columns: int) -> Tensor:
    """MAE's table, rounded to float32 as it is stored."""
    quarter = dim // 4
    rates = [10000 ** (-k / quarter) for k in range(quarter)]
    table = [
        [math.sin(x * r) for r in rates]
        + [math.cos(x * r) for r in rates]
        + [math.sin(y * r) for r in rates]
        + [math.cos(y * r) for r in rates]
        for y in range(rows)
        for x in range(columns)
    ]
    return torch.tensor(table, dtype=torch.float64).float().double()


def stretched(table: Tensor, grid: tuple[int, int]) -> Tensor:
    side = math.isqrt(len(table))
    if grid == (side, side):
        return table
    image = table.T.reshape(1, -1, side, side)
    image = F.interpolate(image, size=grid, mode="bicubic", align_corners=False)
    return image[0].flatten(1).T


@pytest.fixture(scope="session")
def reference() -> SimpleNamespace:
    """The functions above, for the tests of masked image models."""
    names = ("norm", "linear", "blocks", "patch", "project", "normalised", "sincos", "stretched")
    return SimpleNamespace(**{name: globals()[name] for name in names})


def randomised(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The module in float64, every parameter drawn anew: nothing left at 0 or 1 by design."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().train()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(0.3 * drawn)
    return module


def compare(objective: torch.nn.Module, batch: dict[str, Tensor], loss_of) -> None:
    """Compare loss and gradients of an objective with those of ``loss_of(weights)``."""
    weights = {k: v.detach().clone().requires_grad_() for k, v in objective.named_parameters()}
    buffers = {k: v for k, v in objective.state_dict().items() if k not in weights}
    expected = loss_of({**buffers, **weights})
    trained = {k: v for k, v in objective.named_parameters() if v.requires_grad}
    loss = sum(objective(batch).values())
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    wanted = torch.autograd.grad(expected, [weights[k] for k in trained], allow_unused=True)
    found = torch.autograd.grad(loss, list(trained.values()))
    for name, mine, theirs in zip(trained, found, wanted, strict=True):
        assert theirs is not None, name
        assert mine.abs().max() > 0, name
        torch.testing.assert_close(
            mine, theirs, rtol=1e-8, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture(scope="session")
def parity() -> SimpleNamespace:
    """Randomise an objective, and compare it with a reference."""
    return SimpleNamespace(randomised=randomised, compare=compare)


def twenty_losses(objective: torch.nn.Module, batch: dict[str, Tensor]) -> list[float]:
    trained = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)
    losses = []
    for _ in range(20):
        loss = sum(objective(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.fixture(scope="session")
def golden():
    """Compare twenty steps of AdamW on one batch with committed losses."""

    def check(objective: torch.nn.Module, batch: dict[str, Tensor], expected: list[float]) -> None:
        losses = twenty_losses(objective, batch)
        rounded = [round(loss, 5) for loss in losses]
        assert rounded == pytest.approx(expected, abs=2e-4), rounded

    return check
