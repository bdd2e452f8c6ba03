"""The head of self-distillation: an MLP onto a sphere, and prototypes on it."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.distillation_config import DistillationConfig

_STD = 0.02  # of fresh linear layers: dino vision_transformer.py, DINOHead


class Prototypes(nn.Module):
    """A linear layer without bias whose rows have a direction and a length.

    Names and shapes are those of torch's first weight normalisation, which DINO's files have.

    Attributes:
        weight_g: (K, 1), lengths.
        weight_v: (K, D), directions, of any length.
    """

    def __init__(self, dim: int, count: int, *, fixed_length: bool) -> None:
        """Draw fresh directions; lengths are 1.

        Args:
            dim: Of the features.
            count: Of the prototypes.
            fixed_length: Do not train the lengths.
        """
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(count, 1), requires_grad=not fixed_length)
        self.weight_v = nn.Parameter(nn.Linear(dim, count, bias=False).weight.detach())

    def forward(self) -> Tensor:
        """Return the prototypes, (K, D)."""
        lengths = torch.linalg.vector_norm(self.weight_v, dim=1, keepdim=True)
        prototypes: Tensor = self.weight_v * (self.weight_g / lengths)
        return prototypes


class ProjectionHead(nn.Module):
    """DINO's head (Caron et al. 2021, section 3.2), up to the products with the prototypes.

    Attributes:
        mlp: Linear layers with GELU between them.
        last_layer: The prototypes.
    """

    def __init__(self, dim: int, config: DistillationConfig) -> None:
        """Draw fresh weights as dino's ``vision_transformer.DINOHead`` does.

        Args:
            dim: Of the features.
            config: Says how many layers, how wide.
        """
        super().__init__()
        between = [config.hidden_dim] * (config.head_layers - 1)
        widths = [dim, *between, config.bottleneck_dim]
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=_STD)
                nn.init.zeros_(layer.bias)
        self.last_layer = Prototypes(
            config.bottleneck_dim, config.num_prototypes, fixed_length=config.norm_last_layer
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features (..., dim) as unit vectors (..., bottleneck_dim).

        Their products with ``last_layer()`` are the logits.
        """
        return F.normalize(self.mlp(features), dim=-1)
