"""detectron2's AMPTrainer on any device: bf16 or fp32, accumulated gradients, finite losses."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import AMPTrainer
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from backbones.base.distributed import mean_over_ranks, rank, world_size
from backbones.base.errors import UserError
from backbones.base.micro_batches import micro_batches
from backbones.training.state import seed_generators
from detection.config import DetectionConfig
from detection.optim import clip_gradients, set_lr
from detection.schedule import Plan

Batch = list[dict[str, Any]]


@dataclass(frozen=True)
class Training:
    """What a training is made of.

    Attributes:
        detector: On its device, not wrapped.
        optimizer: Over the detector's parameters.
        config: Resolved.
        plan: Its schedule in steps.
        seed: Of every random draw.
        folder: For states and TensorBoard files.
        identity: All that decides the course of the run, by words that a person understands.
    """

    detector: nn.Module
    optimizer: Optimizer
    config: DetectionConfig
    plan: Plan
    seed: int
    folder: Path
    identity: Mapping[str, str]


class Trainer(AMPTrainer):
    """detectron2's trainer with bf16 or fp32, on any device, with accumulated gradients.

    Every micro-batch seeds torch from run seed, step and its number in the global batch: one
    process that accumulates and several that share the batch draw the same samples, and a
    resumed run needs no generator state.
    """

    def __init__(self, training: Training, model: nn.Module, batches: Iterator[Batch]) -> None:
        """Set up.

        Args:
            training: What to train.
            model: Its detector, wrapped for distributed training where there are several ranks.
            batches: This rank's micro-batches from the first step to run on.
        """
        device = next(model.parameters()).device.type
        scaler = torch.amp.GradScaler(device, enabled=False)
        super().__init__(model, batches, training.optimizer, grad_scaler=scaler)
        self.plan = training.plan
        self.latest: dict[str, float] = {}
        self._seed = training.seed
        self._clip_norm = training.config.optim.clip_norm
        schedule = training.config.schedule
        self._micro_batches = micro_batches(
            schedule.batch_size, schedule.batch_size_per_device, world_size()
        )
        self._device = device
        self._bf16 = schedule.precision == "bf16"
        self._pending: tuple[int, list[Any], list[str], Tensor] | None = None

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run steps ``start_iter`` to ``max_iter``, as detectron2's loop but without its traces."""
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            self.before_train()
            try:
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
            finally:
                self.after_train()

    def run_step(self) -> None:
        """Make one update from all micro-batches of this rank.

        Raises:
            UserError: A loss is not a finite number.
        """
        set_lr(self.optimizer, self.plan.lr * self.plan.factor(self.iter))
        self.optimizer.zero_grad(set_to_none=True)
        losses, image_ids = self._backward()
        self.after_backward()
        self.settle()
        self._pending = (self.iter, image_ids, list(losses), torch.stack(list(losses.values())))
        if self._device == "cpu":
            self.settle()
        clip_gradients(self.optimizer, self._clip_norm)
        self.optimizer.step()

    def settle(self) -> None:
        """Read the last losses back and check them.

        On a GPU this comes a step late, when reading no longer waits; nothing is saved before.

        Raises:
            UserError: One is not a finite number.
        """
        if self._pending is None:
            return
        step, image_ids, names, vector = self._pending
        self._pending = None
        values = mean_over_ranks(vector).tolist()
        self.latest = {"loss": sum(values), **dict(zip(names, values, strict=True))}
        if not torch.isfinite(torch.tensor(values)).all():
            bad = ", ".join(f"{name} = {self.latest[name]}" for name in names)
            raise self._diverged(step, bad, image_ids)
        self.storage.put_scalars(cur_iter=step, smoothing_hint=False, **self.latest)

    def _backward(self) -> tuple[dict[str, Tensor], list[Any]]:
        """Add up the gradients of all micro-batches; return mean losses and image ids."""
        sums: dict[str, Tensor] = {}
        image_ids: list[Any] = []
        for number in range(self._micro_batches):
            batch = next(self._data_loader_iter)
            image_ids += [item["image_id"] for item in batch]
            index = number * world_size() + rank()
            seed_generators(self._seed, self.iter, index)
            with self._maybe_no_sync(number), self._autocast():
                losses = self._losses(batch)
                loss = torch.stack(list(losses.values())).sum() / self._micro_batches
            with self._maybe_no_sync(number):
                loss.backward()  # type: ignore[no-untyped-call]
            for name, value in losses.items():
                share = value.detach() / self._micro_batches
                sums[name] = sums[name] + share if name in sums else share
        return sums, image_ids

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the detector's losses; its own alarm at NaN in proposals becomes ours."""
        try:
            losses: dict[str, Tensor] = self.model(batch)
        except FloatingPointError as error:
            image_ids = [item["image_id"] for item in batch]
            raise self._diverged(self.iter, "NaN in proposals", image_ids) from error
        return losses

    def _diverged(self, step: int, what: str, image_ids: list[Any]) -> UserError:
        return UserError(
            f"The loss is no finite number at step {step + 1} ({what}; images {image_ids}); "
            f"lower optim.base_lr (now {self.plan.lr:g} at batch {self.plan.batch_size}) or "
            "set optim.clip_norm, with --set."
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device, torch.bfloat16) if self._bf16 else nullcontext()

    def _maybe_no_sync(self, number: int) -> AbstractContextManager[Any]:
        """Exchange gradients only with the last micro-batch."""
        last = number == self._micro_batches - 1
        if isinstance(self.model, DistributedDataParallel) and not last:
            return self.model.no_sync()
        return nullcontext()
