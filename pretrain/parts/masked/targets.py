"""What masked image models predict of a patch: pixels, normalised pixels or PCA coefficients."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.base.errors import UserError

_EPS = 1e-6  # MAE's loss: added to the variance of a patch's pixels
# Images whose patches give the principal components: 25,000 patches of 16 pixels at 224, for the
# 768 numbers of each.
_PCA_IMAGES = 128


class PatchTarget(nn.Module):
    """Turns the pixels of patches into the values to be predicted, and such values into pixels.

    "norm_pixels" subtracts a patch's mean and divides by its standard deviation, both over all
    values of all channels, the variance unbiased (MAE, section 3). "pca" takes the largest
    principal components of patches (MAE, table 1d: 96); ``find_components`` finds them before the
    training, and they are kept in the state.

    Attributes:
        kind: One of ``masked_config.TARGETS``.
        num_values: Values predicted a patch.
        num_images: So many images should ``find_components`` see the patches of; 0 for no call.
    """

    basis: Tensor
    center: Tensor

    def __init__(self, kind: str, num_pixels: int, num_components: int = 96) -> None:
        """Make the target.

        Args:
            kind: One of ``masked_config.TARGETS``.
            num_pixels: Values of a patch, all channels.
            num_components: Of "pca".
        """
        super().__init__()
        self.kind = kind
        self.num_values = min(num_components, num_pixels) if kind == "pca" else num_pixels
        self.num_images = _PCA_IMAGES if kind == "pca" else 0
        if kind == "pca":
            self.register_buffer("basis", torch.zeros(num_pixels, self.num_values))
            self.register_buffer("center", torch.zeros(num_pixels))

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Return the values of patches.

        Args:
            pixels: (..., num_pixels).

        Returns:
            (..., num_values).
        """
        if self.kind == "norm_pixels":
            mean, deviation = _statistics(pixels)
            return (pixels - mean) / deviation
        if self.kind == "pca":
            return (pixels - self.center) @ self.basis
        return pixels

    @torch.no_grad()
    def to_pixels(self, values: Tensor, pixels: Tensor) -> Tensor:
        """Return the pixels that predicted values stand for.

        Args:
            values: (..., num_values), predicted.
            pixels: (..., num_pixels), the true ones: normalised values say nothing about a patch's
                mean and deviation, so pictures borrow the true ones.
        """
        if self.kind == "norm_pixels":
            mean, deviation = _statistics(pixels)
            return values * deviation + mean
        if self.kind == "pca":
            return values @ self.basis.T + self.center
        return values

    @torch.no_grad()
    def find_components(self, pixels: Tensor) -> None:
        """Find the principal components of patches, unless they are known already.

        Args:
            pixels: (..., num_pixels), the same on all processes.

        Raises:
            UserError: There are too few patches.
        """
        if bool(self.basis.any()):
            return
        samples = pixels.reshape(-1, pixels.shape[-1]).double()
        if len(samples) < self.num_values:
            raise UserError(
                f"{len(samples)} patches of the first images are too few for {self.num_values} "
                "principal components; lower model.num_components."
            )
        mean = samples.mean(dim=0)
        centered = samples - mean
        spread = centered.T @ centered / len(samples)
        vectors = torch.linalg.eigh(spread).eigenvectors.flip(1)[:, : self.num_values]
        # An eigenvector's sign is arbitrary; fixing it makes runs comparable.
        signs = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()
        self.basis.copy_(vectors * signs)
        self.center.copy_(mean)


def _statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each patch, (..., 1).

    In two passes: ``torch.var_mean``'s one pass over a row takes up to seven times as long on CPUs.
    """
    mean = pixels.mean(dim=-1, keepdim=True)
    squares = (pixels - mean).square().sum(dim=-1, keepdim=True)
    return mean, (squares / (pixels.shape[-1] - 1) + _EPS).sqrt()


def distance(predicted: Tensor, target: Tensor, kind: str) -> Tensor:
    """Return the mean squared ("l2") or absolute ("l1") error, in at least single precision."""
    predicted = predicted.to(target.dtype)
    if kind == "l2":
        return F.mse_loss(predicted, target)
    return F.l1_loss(predicted, target)
