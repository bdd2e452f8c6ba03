"""The ``Features`` contract: what every backbone returns, whatever its origin."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backbones.base.errors import UserError


@dataclass(frozen=True)
class Features:
    """What one batch of images becomes.

    Attributes:
        pooled: (B, D), one vector an image; k-NN, linear probe and fine-tune read it.
        maps: One (B, C_i, ceil(H / s_i), ceil(W / s_i)) per stride, finest first; detection and
            region matching read them. Empty where the network has no maps that cover the image,
            see ``TimmBackbone``.
        prefix_tokens: On request, the prefix tokens (cls, registers) of the last n blocks, each
            (B, P, C), final norm applied; empty for backbones without tokens.
        patch_tokens: On request, the patch tokens of the same blocks, each (B, N, C).
    """

    pooled: Tensor
    maps: tuple[Tensor, ...]
    prefix_tokens: tuple[Tensor, ...] = ()
    patch_tokens: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class BlockAttention:
    """How a block of a plain network attends, as it is built.

    Attributes:
        window: Side of its windows in tokens; 0 attends to all tokens.
        relative: Its relative positions: "decomposed" (ViTDet), "rotary", "bias table",
            "bias MLP", "iRPE" or "none".
    """

    window: int = 0
    relative: str = "none"


class Backbone(nn.Module, ABC):
    """A network that turns normalised images into ``Features``.

    Attributes:
        strides: Input pixels per cell of each map, finest first.
        channels: Channels of each map.
        num_layers: Number of layer-decay layers L; ``layer_id`` returns 0 (stem) to L + 1.
    """

    strides: tuple[int, ...]
    channels: tuple[int, ...]
    num_layers: int

    @abstractmethod
    def forward(self, images: Tensor, num_last_blocks: int = 0) -> Features:
        """Return the features of a batch.

        Args:
            images: (B, 3, H, W), normalised with the spec's mean and std. Any H and W; what does
                not divide is padded inside, right and bottom.
            num_last_blocks: Also return the tokens of that many last blocks.
        """

    @abstractmethod
    def forward_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return only ``maps``, without the work that ``pooled`` needs (final norm, pooling)."""

    @abstractmethod
    def layer_id(self, parameter_name: str) -> int:
        """Return the layer-decay layer of a parameter: 0 for the stem, i + 1 for block i.

        Anything behind the last block (final norm) is ``num_layers + 1``.

        Args:
            parameter_name: As in ``named_parameters()`` of this module, without any prefix.

        Raises:
            KeyError: No such parameter.
        """

    def lr_factors(self, layer_decay: float) -> dict[str, float]:
        """Return the factor of the learning rate of each parameter, by name.

        ``layer_decay ** (num_layers + 1 - layer_id)``: the rate falls from each layer to the one
        below; what lies behind the last block has the full rate (BEiT, Bao et al. 2022, appendix;
        microsoft/unilm ``beit/optim_factory.py``).
        """
        top = self.num_layers + 1
        return {
            name: layer_decay ** (top - self.layer_id(name)) for name, _ in self.named_parameters()
        }

    def block_attention(self) -> tuple[BlockAttention, ...]:
        """Return how each block attends; empty where that is unknown (hierarchical networks)."""
        return ()

    def absolute_positions(self) -> str:
        """Return what is known of absolute positions, such as "table of 14 x 14, interpolated"."""
        return ""

    def normed_map(self, images: Tensor, num_blocks: int) -> Tensor:
        """Return the last blocks' patch tokens, final norm applied, side by side as one map.

        Args:
            images: (B, 3, H, W), as in ``forward``.
            num_blocks: Number of blocks.

        Returns:
            (B, num_blocks * C, ceil(H / stride), ceil(W / stride)).

        Raises:
            UserError: The network has no tokens.
        """
        kept = self(images, num_last_blocks=num_blocks).patch_tokens
        if len(kept) != num_blocks:
            raise UserError(f"{type(self).__name__} does not return the tokens of its blocks.")
        tokens = torch.cat(kept, dim=-1).transpose(1, 2)
        rows, columns = (-(-side // self.strides[-1]) for side in images.shape[-2:])
        return tokens.reshape(*tokens.shape[:2], rows, columns)

    def no_weight_decay(self) -> frozenset[str]:
        """Return names of parameters that decay must spare beside norms and biases."""
        return frozenset()

    def set_activation_checkpointing(self, enabled: bool) -> None:
        """Recompute block activations in the backward pass (less memory, about a third slower)."""
        raise NotImplementedError(f"{type(self).__name__} cannot recompute activations")
