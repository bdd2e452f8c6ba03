"""The work of the task attention: entropy and reach by block and head, and pictures."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from backbones.base.errors import PreflightError, UserError
from backbones.base.monitor import Monitor
from benchmarks.labelled.regions.config import RegionConfig
from benchmarks.labelled.regions.evaluation import RegionEvaluation, Seen
from benchmarks.task import TaskInputs, TaskResult
from benchmarks.tasks.attention.maps import Geometry, geometries, watch_attention
from benchmarks.tasks.attention.pictures import draw_attention, draw_heads
from benchmarks.tasks.attention.stats import distance, entropy
from pretrain.pictures import grid, write_png

HEADS_FILE = "attention-heads.png"
MAPS_FILE = "attention-maps.png"
_METRICS = ("attention_entropy", "attention_distance")
_UNKNOWN = "no attention that is known in this network"
# Heads that a picture has room for.
_HEADS = 6


def run_attention(inputs: TaskInputs, monitor: Monitor) -> TaskResult:
    """Watch what a backbone attends to in test images.

    A backbone without attention that is known has no numbers, and a warning.

    Raises:
        PreflightError: Weights, images or disk cannot serve.
        StoppedError: The monitor asked to stop.
    """
    config: RegionConfig = inputs.config
    look = RegionEvaluation(inputs, monitor)
    backbone = look.frozen.backbone
    try:
        blocks = geometries(backbone, config.data.img_size)
    except UserError as error:
        # In a suite with other backbones this is an answer, not a failure.
        unknown: dict[str, float | None] = dict.fromkeys(_METRICS)
        return TaskResult(unknown, cost=look.cost(), warnings=(str(error),), unmeasured=_UNKNOWN)
    sums = _Sums(blocks, look.saved)
    for seen in look.batches("attend", sums.tensors):
        if not seen.numbers:
            continue
        sums.attend(look, seen)
        if seen.drawn:
            maps, asking = sums.last_maps()
            sums.keep(draw_attention(seen.views[seen.drawn, 0], maps.cpu(), asking))
    means = {"entropy": sums.mean("entropy"), "distance": sums.mean("distance")}
    files = [inputs.out_dir / HEADS_FILE]
    panels = {"entropy (nats)": means["entropy"], "distance (pixels)": means["distance"]}
    draw_heads(files[0], inputs.backbone.name, panels)
    if len(sums.pictures):
        files.append(inputs.out_dir / MAPS_FILE)
        write_png(files[1], grid(sums.pictures))
    by_block = {name: [_mean(heads) for heads in v] for name, v in means.items()}
    return TaskResult(
        metrics=dict(zip(_METRICS, map(_mean, by_block.values()), strict=True)),
        cost=look.cost(),
        curves={"step": [float(i + 1) for i in range(len(blocks))], **by_block},
        coverage=look.frozen.coverage.sentence(),
        details={
            "num_test": sums.images,
            "tokens": [int(block.places.shape[1]) for block in blocks],
            "device": str(look.frozen.device),
            **{f"{name}_by_head": values for name, values in means.items()},
        },
        files=tuple(files),
        warnings=tuple(look.warnings()),
        rates=look.rates(partial(_Sums(blocks, {}).attend, look)),
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


class _Sums:
    """Adds up what blocks attend to.

    Attributes:
        images: Seen so far.
        pictures: Of some of them, one below the other.
    """

    def __init__(self, blocks: list[Geometry], saved: Mapping[str, Tensor]) -> None:
        self._blocks = blocks
        self._sums: dict[str, list[Tensor | float]] = {
            name: [saved.get(f"{name}.{number}", 0.0) for number in range(len(blocks))]
            for name in ("entropy", "distance")
        }
        self._drawn: list[int] = []
        self._last: Tensor | None = None
        self._count = 0
        self.images = int(saved.get("images", 0))
        self.pictures = saved.get("pictures", torch.empty(0))

    def tensors(self) -> dict[str, Tensor]:
        """Return all that was added up, as ``saved`` has it."""
        sums = {
            f"{name}.{number}": torch.as_tensor(total)
            for name, totals in self._sums.items()
            for number, total in enumerate(totals)
        }
        # Before the first batch there is nothing to add to.
        known = sums if self.images else {}
        return {**known, "images": torch.tensor(self.images), "pictures": self.pictures}

    def keep(self, pictures: Tensor) -> None:
        """Add pictures of some images."""
        self.pictures = torch.cat([self.pictures, pictures]) if len(self.pictures) else pictures

    def attend(self, look: RegionEvaluation, seen: Seen) -> None:
        """Add what the blocks attend to in a batch of images."""
        self._drawn, self._count = seen.drawn, len(seen.numbers)
        self.images += self._count
        watch_attention(look.frozen.backbone, look.ready(seen.views[:, 0]), self.take)

    def take(self, number: int, shares: Tensor) -> None:
        """Add a block's shares of a batch, (B * W, heads, N, N)."""
        block = self._blocks[number]
        windows, tokens = block.places.shape[:2]
        if shares.shape[0] != self._count * windows or shares.shape[-1] != tokens:
            raise PreflightError(
                f"Block {number + 1} attends to {tuple(shares.shape)}, which is not the "
                f"{windows} x {tokens} tokens that its layout gives; this network cannot be read."
            )
        for name, measure in (("entropy", entropy), ("distance", distance)):
            self._sums[name][number] += self._count * measure(shares, block).cpu()
        if number == len(self._blocks) - 1 and self._drawn:
            by_window = shares.reshape(-1, windows, *shares.shape[1:])
            self._last = by_window[self._drawn]

    def mean(self, name: str) -> list[list[float]]:
        """Return the mean over images by block and head."""
        return [(total / self.images).tolist() for total in self._sums[name]]  # type: ignore[union-attr]

    def last_maps(self) -> tuple[Tensor, Tensor]:
        """Return what one token of the last block looks at in the images to be drawn.

        The class token, where there is one, else the patch in the middle.

        Returns:
            (B, heads, rows, columns), and (B, 2) the patch's row and column, -1 for the class
            token.
        """
        assert self._last is not None
        geometry = self._blocks[-1]
        places = geometry.places
        side = int(places.max()) + 1
        middle = torch.tensor([side // 2, side // 2])
        asking = torch.tensor([-1, -1]) if geometry.has_class_token else middle
        found = (places == asking).all(dim=-1).nonzero()[0]
        window, token = int(found[0]), int(found[1])
        shares = self._last[:, window, :_HEADS, token]
        real = (places[window, :, 0] >= 0).nonzero()[:, 0]
        rows, columns = places[window, real].unbind(dim=-1)
        maps = torch.zeros(*shares.shape[:2], side, side)
        maps[:, :, rows, columns] = shares.cpu()[..., real]
        return maps, asking.expand(len(maps), 2)
