"""Boxes pooled from the maps of a frozen backbone, once: later runs read them from disk."""

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from backbones.base.arrays import ArrayFormat
from backbones.base.cores import loader_workers
from backbones.base.errors import StoppedError, UserError
from backbones.base.files import hash16
from backbones.base.monitor import Monitor, Progress
from backbones.features import Backbone
from backbones.timing.alone import Rehearsal
from backbones.training.pixels import Pixels
from benchmarks.labelled.features.extract import Frozen
from benchmarks.tasks.regions.boxes import Floats, ImageBoxes, Ints, boxes_of
from benchmarks.tasks.regions.recipes import RegionProbeConfig
from detection.config import EvaluationConfig
from detection.data.loader import evaluation_batches

# Raised whenever the same images, backbone and recipe give other rows.
_VERSION = 1
# Images a file; after a stop at most these are looked at again.
_BLOCK_IMAGES = 512
_BLOCK = ArrayFormat("backbench-region-features-1", "pooled boxes")
# Of the channel-wise norm of maps that no norm of the network follows, as in Swin's detection code.
_NORM_EPS = 1e-5

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PooledBoxes:
    """The pooled boxes of a split: N objects, M background boxes, K displaced copies.

    Attributes:
        objects: (N, D) mean over the cells of each object's box.
        labels: (N,) classes.
        sizes: (N,) index into ``boxes.SIZES``.
        images: (N,) place of the object's image in the split as it was given.
        boxes: (N, 4) xyxy in pixels of the file.
        background: (M, D) likewise of background boxes.
        background_images: (M,) place of the box's image.
        copies: (K, D * grid * grid) float16 cells of displaced boxes, channel by channel.
        copy_boxes: (K, 4) xyxy.
        copy_objects: (K,) row of the object that was displaced.
    """

    objects: Rows
    labels: Ints
    sizes: Ints
    images: Ints
    boxes: Floats
    background: Rows
    background_images: Ints
    copies: npt.NDArray[np.float16]
    copy_boxes: Floats
    copy_objects: Ints


class RegionExtractor:
    """Makes the pooled boxes of a split, or finds them made.

    Attributes:
        images_seen: Images that went through the backbone in this process.
        seconds: Time spent on them.
    """

    def __init__(
        self, frozen: Frozen, config: RegionProbeConfig, data: str, cache: Path, seed: int
    ) -> None:
        """Set up.

        Args:
            frozen: The backbone.
            config: The recipe.
            data: Fingerprint of the data set.
            cache: Folder that all pooled boxes lie in.
            seed: Of the boxes.
        """
        self._frozen = frozen
        self._config = config
        self._seed = seed
        self._pixels = Pixels(frozen.spec, frozen.device)
        self._has_layer_norm = any(isinstance(m, nn.LayerNorm) for m in frozen.backbone.modules())
        self._content = {
            "version": _VERSION,
            "backbone": frozen.spec.name,
            "weights_and_code": frozen.identity,
            "pixels": [frozen.spec.mean, frozen.spec.std],
            "data": data,
            "seed": seed,
            "images": [
                config.images.short_side,
                config.images.max_size,
                *(["square"] if config.images.square else []),
            ],
            "boxes": asdict(config.boxes),
            "precision": config.extraction.precision,
        }
        self._cache = cache / "regions"
        self.images_seen = 0
        self.seconds = 0.0

    def pool(
        self, samples: Sequence[dict[str, Any]], what: str, copies: int, monitor: Monitor
    ) -> PooledBoxes:
        """Return the pooled boxes of images.

        Args:
            samples: Dataset dicts, each with an object.
            what: "train" or "val".
            copies: Largest number of displaced boxes; whole images are left out beyond it.
            monitor: Hears of progress, may stop.

        Raises:
            PreflightError: An image cannot be used, or the disk cannot be written.
            StoppedError: The monitor asked to stop; finished blocks are kept.
            UserError: The backbone cannot see images of this size.
        """
        drawn = [boxes_of(sample, self._config.boxes, self._seed) for sample in samples]
        with_copies = _images_within(drawn, self._config.boxes.jitters, copies)
        content = [*self._content.items(), what, with_copies, [s["image_id"] for s in samples]]
        folder = self._cache / hash16(content)
        parts: list[dict[str, Any]] = []
        for start in range(0, len(samples), _BLOCK_IMAGES):
            path = folder / f"block-{start // _BLOCK_IMAGES:05d}.npz"
            places = range(start, min(start + _BLOCK_IMAGES, len(samples)))
            block = _known(path)
            if block is None:
                block = self._block(samples, drawn, places, with_copies, (what, monitor))
                path.parent.mkdir(parents=True, exist_ok=True)
                _BLOCK.write(path, block, compressed=False)
            parts.append(block)
        return _joined(parts, drawn, with_copies)

    def rehearse(self, samples: Sequence[dict[str, Any]]) -> Rehearsal:
        """Return the work on the first images of a split, which lie in memory.

        Args:
            samples: As for ``pool``.
        """
        few = samples[: self._config.extraction.batch_size]
        drawn = [boxes_of(sample, self._config.boxes, self._seed) for sample in few]
        batches = list(self._batches(few, range(len(few)), num_workers=0))

        def work() -> None:
            for batch in batches:
                for _ in self._forward(batch, drawn, len(few)):
                    pass

        return Rehearsal(work, len(few))

    def _block(
        self,
        samples: Sequence[dict[str, Any]],
        drawn: Sequence[ImageBoxes],
        places: range,
        with_copies: int,
        progress: tuple[str, Monitor],
    ) -> dict[str, Any]:
        """Return the pooled rows of the images at ``places``, in their order."""
        what, monitor = progress
        found: dict[int, dict[str, Any]] = {}
        start = time.perf_counter()
        for batch in self._batches(samples, places, loader_workers()):
            if monitor.should_stop():
                raise StoppedError("Stopped while boxes were pooled; finished blocks are kept.")
            for place, rows in self._forward(batch, drawn, with_copies):
                found[place] = rows
            rate = len(found) / (time.perf_counter() - start)
            done = places.start + len(found)
            monitor.progress(Progress(f"regions of {what}", done, len(samples), rate))
        self.images_seen += len(found)
        self.seconds += time.perf_counter() - start
        names = ("objects", "background", "copies")
        return {name: np.concatenate([found[place][name] for place in places]) for name in names}

    def _batches(
        self, samples: Sequence[dict[str, Any]], places: range, num_workers: int
    ) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        """Yield images of equal resized size together: padding would take part in attention."""
        order = sorted(places, key=lambda p: (samples[p]["height"], samples[p]["width"], p))
        config = EvaluationConfig(
            short_side=self._config.images.short_side,
            max_size=self._config.images.max_size,
            batch_size_per_device=self._config.extraction.batch_size,
        )
        ordered = [samples[place] for place in order]
        loaded = evaluation_batches(ordered, config, num_workers=num_workers)
        numbers = iter(order)
        for batch in loaded:
            same: list[tuple[int, dict[str, Any]]] = []
            for sample in batch:
                if same and same[0][1]["image"].shape != sample["image"].shape:
                    yield same
                    same = []
                same.append((next(numbers), sample))
            yield same

    @torch.no_grad()
    def _forward(
        self,
        batch: list[tuple[int, dict[str, Any]]],
        drawn: Sequence[ImageBoxes],
        with_copies: int,
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the place and the pooled rows of each image of a batch."""
        frozen, grid = self._frozen, self._config.boxes.grid
        pixels = self._pixels.ready({"pixels": torch.stack([s["image"] for _, s in batch])})
        images = self._squared(pixels["pixels"])
        low = self._config.extraction.precision == "bf16"
        with torch.autocast(frozen.device.type, torch.bfloat16) if low else nullcontext():
            maps = maps_of(frozen.backbone, images, self._has_layer_norm)
        for number, (place, sample) in enumerate(batch):
            boxes = drawn[place]
            parts = [boxes.objects, boxes.background]
            parts += [boxes.jittered.reshape(-1, 4)] if place < with_copies else []
            scale = np.array(sample["image"].shape[:0:-1]) / (sample["width"], sample["height"])
            wanted = torch.from_numpy(np.concatenate(parts) * np.tile(scale, 2)).float()
            own = [m[number : number + 1] for m in maps]
            cells = self._cells(own, wanted.to(frozen.device), grid)
            means = cells.mean(dim=2).cpu().numpy()
            first, second = len(boxes.objects), len(boxes.objects) + len(boxes.background)
            yield (
                place,
                {
                    "objects": means[:first],
                    "background": means[first:second],
                    "copies": cells[second:].flatten(1).half().cpu().numpy(),
                },
            )

    def _squared(self, images: Tensor) -> Tensor:
        """Return (B, 3, H, W) normalised images, padded to the recipe's square if it has one."""
        if not self._config.images.square:
            return images
        side = self._config.images.max_size
        return F.pad(images, (0, side - images.shape[-1], 0, side - images.shape[-2]))

    def _cells(self, maps: Sequence[Tensor], boxes: Tensor, grid: int) -> Tensor:
        """Return the pooled cells of (N, 4) boxes in pixels of the input, (N, D, grid * grid)."""
        pooled = [
            roi_align(
                image.float(), [boxes], grid, 1 / stride, self._config.boxes.samples, aligned=True
            )
            for image, stride in zip(maps, self._frozen.backbone.strides, strict=True)
        ]
        return torch.cat([cells.flatten(2) for cells in pooled], dim=1)


def maps_of(backbone: Backbone, images: Tensor, has_layer_norm: bool) -> tuple[Tensor, ...]:
    """Return the maps that boxes are pooled from, each (B, C_i, h_i, w_i), finest first.

    A plain backbone gives its last patch tokens behind the final norm. A hierarchical one gives
    all maps; where it is built on LayerNorm, its maps are a residual stream, and each position is
    normalised over its channels, without weights.

    Args:
        backbone: In evaluation mode.
        images: (B, 3, H, W) normalised.
        has_layer_norm: The network is built on LayerNorm.

    Raises:
        UserError: The network cannot see images of this size.
    """
    height, width = images.shape[-2:]
    plain = len(backbone.strides) == 1
    try:
        features = backbone(images, num_last_blocks=1 if plain else 0)
    except (AssertionError, RuntimeError, ValueError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        raise UserError(
            f"The backbone cannot see images of {width} x {height} pixels ({error}); choose "
            "another images.short_side with --set."
        ) from error
    if plain and features.patch_tokens:
        stride = backbone.strides[0]
        grid = (-(-height // stride), -(-width // stride))
        return (features.patch_tokens[-1].mT.unflatten(2, grid),)
    if not has_layer_norm:
        return tuple(features.maps)
    return tuple(
        F.layer_norm(m.permute(0, 2, 3, 1).float(), m.shape[1:2], eps=_NORM_EPS).permute(0, 3, 1, 2)
        for m in features.maps
    )


def _images_within(drawn: Sequence[ImageBoxes], jitters: int, most: int) -> int:
    """Return how many images from the start have at most ``most`` displaced boxes together."""
    total = np.cumsum([jitters * len(boxes.objects) for boxes in drawn])
    return max(1, int(np.searchsorted(total, most, side="right")))


def _known(path: Path) -> dict[str, Any] | None:
    """Return a block that was written before; None where it is absent or damaged."""
    if not path.exists():
        return None
    try:
        return _BLOCK.read(path, dict)
    except UserError:
        return None


def _joined(
    parts: Sequence[dict[str, Any]], drawn: Sequence[ImageBoxes], with_copies: int
) -> PooledBoxes:
    counts = np.array([len(boxes.objects) for boxes in drawn])
    firsts = np.cumsum(counts) - counts
    jittered = drawn[:with_copies]
    places = np.arange(len(drawn))
    return PooledBoxes(
        objects=np.concatenate([part["objects"] for part in parts]),
        labels=np.concatenate([boxes.labels for boxes in drawn]),
        sizes=np.concatenate([boxes.sizes for boxes in drawn]),
        images=np.repeat(places, counts),
        boxes=np.concatenate([boxes.objects for boxes in drawn]),
        background=np.concatenate([part["background"] for part in parts]),
        background_images=np.repeat(places, [len(boxes.background) for boxes in drawn]),
        copies=np.concatenate([part["copies"] for part in parts]),
        copy_boxes=np.concatenate([boxes.jittered.reshape(-1, 4) for boxes in jittered]),
        copy_objects=np.concatenate(
            [
                np.repeat(np.arange(first, first + len(b.objects)), b.jittered.shape[1])
                for first, b in zip(firsts, jittered, strict=False)
            ]
        ),
    )
