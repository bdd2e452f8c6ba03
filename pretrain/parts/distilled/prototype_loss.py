"""Cross-entropy of student against teacher over many prototypes, without keeping their logits.

65536 prototypes make logits, probabilities and gradients of the logits the largest tensors of a
step: EsViT has 170 student and 98 teacher rows of them an image. Here they exist for a few hundred
rows at a time. The forward pass takes these rows from unit vectors to loss and on to the gradients
of unit vectors and prototypes, which are small; so no matrix product is done twice. Teacher rows
that no student row is compared with are not made at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Logits of the student that exist at a time: 64 MiB in float32, 256 rows of 65536. Fewer rows
# read and write the prototypes' gradient more often, more rows need more memory.
CHUNK = 2**24


@dataclass(frozen=True)
class Targets:
    """What the teacher says.

    Attributes:
        features: (B, T, D), unit vectors, T rows an image.
        prototypes: (K, D).
        center: (K,), subtracted from the logits.
        temperature: Divides them.
    """

    features: Tensor
    prototypes: Tensor
    center: Tensor
    temperature: float


class Agreement(NamedTuple):
    """How student and teacher agree; both numbers float32 at least.

    Attributes:
        loss: Cross-entropy, the weighted sum over an image's rows, mean over images.
        entropy: The teacher's share of it, weighted alike, without gradient: what is left of the
            loss when the student says what the teacher says.
    """

    loss: Tensor
    entropy: Tensor


@dataclass(frozen=True)
class Pairs:
    """Which teacher rows each of an image's R student rows is compared with.

    Attributes:
        match: (B, P), the teacher row of each pair, 0 to T - 1; pairs in order of student rows.
        starts: R + 1 numbers: row r has the pairs from starts[r] to starts[r + 1].
        weights: (R,) float64, of each row's cross-entropy, the mean over its pairs, in an image's
            loss.
    """

    match: Tensor
    starts: tuple[int, ...]
    weights: Tensor


def prototype_loss(
    features: Tensor, prototypes: Tensor, temperature: float, targets: Targets, pairs: Pairs
) -> Agreement:
    """Return the weighted sum of cross-entropies over an image's rows, mean over images.

    One pair's cross-entropy is ``-sum(softmax((t - center) / teacher temperature) * log_softmax(s /
    temperature))`` with s and t the products of the pair's features with their prototypes.

    Args:
        features: (B, R, D), the student's unit vectors.
        prototypes: (K, D), the student's.
        temperature: The student's.
        targets: What the teacher says; no gradient goes there.
        pairs: What is compared.
    """
    return Agreement(*_apply(features, prototypes, temperature, targets, pairs))


class _PrototypeLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        prototypes: Tensor,
        temperature: float,
        targets: Targets,
        pairs: Pairs,
    ) -> tuple[Tensor, Tensor]:
        device = features.device.type
        mixed = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if mixed else features.dtype
        with torch.autocast(device, enabled=False):
            rows = _StudentRows(features, prototypes, temperature, dtype)
            loss, entropy = rows.run(targets, pairs, want_gradients=any(ctx.needs_input_grad))
        ctx.save_for_backward(rows.d_features, rows.d_prototypes)
        ctx.mark_non_differentiable(entropy)
        return loss, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_features, d_prototypes = ctx.saved_tensors
        return grads[0] * d_features, grads[0] * d_prototypes, None, None, None


class _StudentRows:
    """The student's rows, worked through in portions.

    Attributes:
        d_features: Gradient of the loss, as ``features``.
        d_prototypes: Likewise, as ``prototypes``.
    """

    def __init__(
        self, features: Tensor, prototypes: Tensor, temperature: float, dtype: torch.dtype
    ) -> None:
        """Take what the student has; products are done in ``dtype``, the rest in float32."""
        self._images, self._per_image = features.shape[:2]
        self._features = features.detach().flatten(0, 1).to(dtype)
        self._prototypes = prototypes.detach().to(dtype)
        self._scale = 1 / temperature
        self._dtype = dtype
        self.d_features = torch.zeros_like(features)
        self.d_prototypes = torch.zeros_like(prototypes)

    def run(self, targets: Targets, pairs: Pairs, *, want_gradients: bool) -> Agreement:
        """Return loss and entropy; leave the loss's gradients."""
        weights = pairs.weights.repeat(self._images) / self._images
        num_targets = targets.features.shape[1]
        shift = torch.arange(self._images, device=weights.device)[:, None] * num_targets
        match = (pairs.match + shift).flatten()
        teacher = targets.features.flatten(0, 1).to(self._dtype)
        teacher_prototypes = targets.prototypes.to(self._dtype)
        loss, entropy = weights.new_zeros(()), weights.new_zeros(())
        for rows, span in self._portions(pairs):
            matched, place = torch.unique(match[span], return_inverse=True)
            logits = self._product(teacher[matched], teacher_prototypes, 1.0)
            logits = logits.sub_(targets.center).div_(targets.temperature)
            starts = self._starts(pairs, rows) - span.start
            chances = logits.softmax(dim=1)
            goal = F.embedding_bag(place, chances, starts, mode="mean")
            doubts = F.embedding_bag(place, _entropies(logits, chances), starts, mode="mean")
            entropy += weights[rows] @ doubts.flatten().to(weights.dtype)
            logits = self._product(self._features[rows], self._prototypes, self._scale)
            log_probs = logits.log_softmax(dim=1)
            loss -= weights[rows] @ _dot(goal, log_probs).flatten().to(weights.dtype)
            if want_gradients:
                # Of unweighted rows: the weights are left to the small tensors.
                d_logits = log_probs.exp_().sub_(goal)
                self._differentiate(d_logits, rows, weights[rows] * self._scale)
        return Agreement(loss.to(goal.dtype), entropy.to(goal.dtype))

    def _portions(self, pairs: Pairs) -> Iterator[tuple[slice, slice]]:
        """Yield rows, and pairs that belong to them: whole images where these fit."""
        total, most = self._images * self._per_image, max(1, CHUNK // len(self._prototypes))
        step = most - most % self._per_image or most
        for first in range(0, total, step):
            last = min(total, first + step)
            yield slice(first, last), slice(self._start(pairs, first), self._start(pairs, last))

    def _start(self, pairs: Pairs, row: int) -> int:
        image, inside = divmod(row, self._per_image)
        return image * pairs.starts[-1] + pairs.starts[inside]

    def _starts(self, pairs: Pairs, rows: slice) -> Tensor:
        """Return the first pair of each of R rows, (R,)."""
        starts = [self._start(pairs, row) for row in range(rows.start, rows.stop)]
        return torch.tensor(starts, device=pairs.match.device)

    def _product(self, rows: Tensor, prototypes: Tensor, scale: float) -> Tensor:
        """Return logits of (R, D) rows with (K, D) prototypes, (R, K), float32 at least."""
        logits = (rows * scale) @ prototypes.T
        return logits.float() if logits.dtype.itemsize < 4 else logits

    def _differentiate(self, d_logits: Tensor, rows: slice, factors: Tensor) -> None:
        """Put into the gradients what (R, K) ``d_logits`` of rows with (R,) factors give."""
        d_logits = d_logits.to(self._dtype)
        factors = factors[:, None].to(self._dtype)
        product = (d_logits @ self._prototypes).mul_(factors)
        self.d_features.view(-1, product.shape[1])[rows] = product
        student = self._features[rows] * factors
        if self.d_prototypes.dtype == self._dtype:
            self.d_prototypes.addmm_(d_logits.T, student)
        else:
            self.d_prototypes.add_(d_logits.T @ student)


def _entropies(logits: Tensor, chances: Tensor) -> Tensor:
    """Return entropies (R, 1) of softmax rows in nats, with neither exponential nor logarithm of K.

    The logarithm of a row's sum of exponentials is any logit less the logarithm of its chance;
    the largest has the most exact one.
    """
    largest, chance = logits.amax(dim=1, keepdim=True), chances.amax(dim=1, keepdim=True)
    return largest - chance.log() - _dot(chances, logits)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Return the products of rows, (R, 1); vecdot would make all factors before it adds them."""
    return torch.bmm(left[:, None], right[:, :, None])[:, :, 0]


# What the matching finds decides shapes, which a compiler would have to follow.
_apply: Any = torch.compiler.disable(_PrototypeLoss.apply)  # type: ignore[no-untyped-call]
