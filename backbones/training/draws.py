"""Random draws of a forward that do not depend on how many images a device holds at once.

The loop seeds torch's generators for each micro-batch of the recipe. Where a device holds several
of these at once, or a part of one, stochastic depth draws here for each as if it came alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn


class Draws:
    """Generators of the recipe's micro-batches that one forward is made of.

    Args:
        by_recipe: Images of a recipe's micro-batch.
        held: Images of a forward: a multiple or a divisor of ``by_recipe``.
        device: Where the forward runs.
    """

    def __init__(self, by_recipe: int, held: int, device: torch.device) -> None:
        self._by_recipe = by_recipe
        self._held = held
        self._device = device
        self._generators: list[torch.Generator] = []
        self._offset = 0
        self._paths: list[_DropPath] = []

    def serve(self, module: nn.Module) -> None:
        """Let the stochastic depth inside ``module`` draw from here, in place."""
        paths: list[Any] = [part for part in module.modules() if type(part) is DropPath]
        for path in paths:
            path.__class__ = _DropPath
            path.draws, path.masks = self, []
        self._paths += paths

    def numbers(self, number: int) -> range:
        """Return the numbers of the recipe's micro-batches in micro-batch ``number``."""
        first = number * self._held // self._by_recipe
        return range(first, first + max(1, self._held // self._by_recipe))

    @contextmanager
    def seeded(self, seeds: Sequence[int], number: int) -> Iterator[None]:
        """Draw for the parts of a micro-batch.

        Args:
            seeds: One for each of ``numbers(number)``.
            number: Of the micro-batch in the global batch.
        """
        self._generators = [torch.Generator(self._device).manual_seed(seed) for seed in seeds]
        self._offset = number * self._held % self._by_recipe
        try:
            yield
        finally:
            self._generators = []

    def enter(self, part: int) -> None:
        """Let torch's own generator go on where the draws of a part stand.

        Args:
            part: Its place among ``numbers``.
        """
        state = self._generators[part].get_state()
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state, self._device)
        else:
            torch.default_generator.set_state(state)

    def forget(self) -> None:
        """Drop the masks of the last forward, once its backward pass is done."""
        for path in self._paths:
            path.masks.clear()

    def mask(self, like: Tensor, keep: float) -> Tensor:
        """Return a mask of whole images.

        Args:
            like: (held * V, ...), the V views of an image next to each other.
            keep: Probability of 1.

        Returns:
            (held * V, 1, ...), of 0 and 1.
        """
        views, ones = len(like) // self._held, (1,) * (like.ndim - 1)
        place = slice(self._offset, self._offset + min(self._held, self._by_recipe))
        parts = []
        for generator in self._generators:
            drawn = like.new_empty((self._by_recipe * views, *ones))
            drawn.bernoulli_(keep, generator=generator)
            parts.append(drawn.view(self._by_recipe, views, *ones)[place])
        return torch.cat(parts).flatten(0, 1)


class _DropPath(DropPath):  # type: ignore[misc]
    """Stochastic depth that draws from ``Draws``, and keeps its masks for a recomputation."""

    draws: Draws
    masks: list[Tensor]

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with some images' values dropped, as timm's own."""
        if not self.draws._generators and not self.masks:
            out: Tensor = super().forward(x)
            return out
        if not self.training or not self.drop_prob:
            return x
        return x * self._mask(x)

    def _mask(self, x: Tensor) -> Tensor:
        # Recomputed within a backward pass, which meets the calls in reverse order.
        if torch._C._current_graph_task_id() != -1:
            return self.masks.pop()
        keep = 1 - float(self.drop_prob)
        mask = self.draws.mask(x, keep)
        if keep > 0 and self.scale_by_keep:
            mask.div_(keep)
        self.masks.append(mask)
        return mask


def draws_besides_depth(module: nn.Module) -> bool:
    """Return whether a module in training draws what ``Draws`` cannot: dropout of single values."""
    kinds: tuple[Any, ...] = (nn.modules.dropout._DropoutNd,)
    return any(
        isinstance(part, kinds) and part.p > 0 and part.training for part in module.modules()
    )
