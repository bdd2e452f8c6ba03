"""Pictures of what attention looks at."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from backbones.base.files import atomic_file

# Small views are enlarged to this many pixels.
_SIDE = 224
_MARK = (230, 60, 50)
_DOT = 3
_OVER_IMAGE = 0.6  # strength of a map over the image below


def draw_attention(views: Tensor, maps: Tensor, asking: Tensor) -> Tensor:
    """Draw each image, and over it what each head looks at.

    Args:
        views: (B, 3, S, S) uint8.
        maps: (B, heads, rows, columns) shares.
        asking: (B, 2) row and column of the cell whose attention it is, -1 for the class token.

    Returns:
        (B, 1 + heads, 3, side, side) uint8.
    """
    factor = max(1, round(_SIDE / views.shape[-1]))
    size = (factor * views.shape[-1],) * 2
    images = F.interpolate(views.float(), size=size, mode="nearest") / 255
    heat = F.interpolate(maps / maps.amax(dim=(2, 3), keepdim=True), size=size, mode="nearest")
    colors = matplotlib.colormaps["inferno"](heat.cpu().numpy())[..., :3]
    hot = torch.from_numpy(colors).permute(0, 1, 4, 2, 3).to(images)
    over = torch.lerp(images[:, None].expand_as(hot), hot, _OVER_IMAGE)
    cell = size[0] / maps.shape[-1]
    first = images.clone()
    for number, (row, column) in enumerate(asking.tolist()):
        if row >= 0:
            y, x = round((row + 0.5) * cell), round((column + 0.5) * cell)
            mark = torch.tensor(_MARK).to(first)[:, None, None] / 255
            first[number, :, y - _DOT : y + _DOT + 1, x - _DOT : x + _DOT + 1] = mark
    return (255 * torch.cat([first[:, None], over], dim=1)).round().to(torch.uint8)


def draw_heads(path: Path, title: str, panels: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Draw a number of each head over the blocks, a panel a kind of number.

    Args:
        path: PNG file, written atomically.
        title: Above the panels.
        panels: By the axis' name, the number of each head, block by block.

    Raises:
        PreflightError: The file cannot be written.
    """
    figure = Figure(figsize=(4.2 * len(panels), 3.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, blocks) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for number, heads in enumerate(blocks, start=1):
            axes.scatter([number] * len(heads), heads, s=12, alpha=0.7, color="tab:blue")
        means = [sum(heads) / len(heads) for heads in blocks]
        axes.plot(range(1, len(means) + 1), means, color="tab:orange", label="mean of heads")
        axes.set_xlabel("block")
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0)
        axes.set_xticks(range(1, len(means) + 1, 1 if len(means) <= 12 else 2))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(title)
    with atomic_file(path) as file:
        figure.savefig(file, format="png")
