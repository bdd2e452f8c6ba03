"""Images through a frozen backbone, once: whoever comes later reads the features from disk."""

import hashlib
import inspect
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock
import numpy as np
import torch

from backbones.base import devices
from backbones.base.cores import loader_workers
from backbones.base.errors import StoppedError
from backbones.base.files import cannot_write, hash16, sha256_file, write_json_atomically
from backbones.base.monitor import Monitor, Progress
from backbones.base.workers import make_in_workers
from backbones.checkpoint import Checkpoint
from backbones.features import Backbone
from backbones.spec import BackboneSpec, BuildOptions
from backbones.timing.alone import Rehearsal
from backbones.training.pixels import Pixels
from backbones.training.stream import refuse_too_many
from backbones.weights.loading import Coverage, build_backbone
from benchmarks.labelled.config import ExtractionConfig
from benchmarks.labelled.features.features import NUM_LAST_BLOCKS, Layout, probe_layout, to_rows
from benchmarks.labelled.features.table import ROWS, BlockFolder, FeatureBlock, FeatureTable, Rows
from benchmarks.labelled.features.views import Show, View, ViewBatch
from pretrain.data.images import ImageSet

# Raised whenever the same images, backbone and view give other rows.
_VERSION = 1
_WAIT_SECONDS = 0.5
# Of the time of an extraction: when this much goes by without images, the backbone is not what it
# takes so long for.
_SLOW_LOADING = 0.25


@dataclass(frozen=True)
class Frozen:
    """A backbone that is measured as it is.

    Attributes:
        spec: Its name card.
        backbone: In evaluation mode, on ``device``.
        coverage: How its weights were loaded.
        identity: Of weights and code, 16 hex digits.
        layout: Of its rows of features.
        device: Where it runs.
    """

    spec: BackboneSpec
    backbone: Backbone
    coverage: Coverage
    identity: str
    layout: Layout
    device: torch.device

    @property
    def parameters_millions(self) -> float:
        """Return the number of parameters, in millions."""
        return sum(p.numel() for p in self.backbone.parameters()) / 1e6


def freeze(spec: BackboneSpec, checkpoint: Checkpoint, img_size: int, seed: int) -> Frozen:
    """Build a backbone with its weights, for features of images of one size.

    Args:
        spec: The backbone.
        checkpoint: Its weights; without a file, fresh ones drawn from ``seed``.
        img_size: Of the views, in pixels.
        seed: For fresh weights.

    Raises:
        PreflightError: The weights do not fit.
    """
    device = devices.join()
    devices.choose_threads(device, loader_workers())
    backbone, coverage = build_backbone(spec, checkpoint, BuildOptions(img_size=img_size), seed)
    identity = _identity(backbone)
    backbone.requires_grad_(False).eval().to(device)
    layout = probe_layout(backbone, img_size, device)
    return Frozen(spec, backbone, coverage, identity, layout, device)


class Extractor:
    """Makes tables of features, or finds them made.

    Attributes:
        images_seen: Images that went through the backbone in this process.
        seconds: Spent on them.
        seconds_loading: Of these, spent without images to look at.
    """

    def __init__(
        self, frozen: Frozen, config: ExtractionConfig, cache: Path, monitor: Monitor
    ) -> None:
        """Set up.

        Args:
            frozen: The backbone.
            config: How it is run.
            cache: Folder that all tables lie in.
            monitor: To report to.
        """
        self._frozen = frozen
        self._config = config
        self._cache = cache / "features"
        self._monitor = monitor
        self._pixels = Pixels(frozen.spec, frozen.device)
        self.images_seen = 0
        self.seconds = 0.0
        self.seconds_loading = 0.0

    def table(self, images: ImageSet, view: View, what: str, max_corrupt: int) -> FeatureTable:
        """Return the features of all images.

        Args:
            images: The set.
            view: What the backbone is shown of an image.
            what: "train", "val": for messages.
            max_corrupt: So many images may be unreadable.

        Raises:
            PreflightError: More are, or the disk cannot be written.
            StoppedError: The monitor asked to stop; blocks that are finished are kept.
        """
        folder = self._folder(images, view)
        blocks = self._known(folder)
        work = _Work(folder, images, view, what)
        todo = [number for number in range(len(folder)) if number not in blocks]
        self._tell(work, bool(todo))
        before = (self.seconds, self.seconds_loading)
        while todo:
            for number in todo:
                block = self._take(work, number)
                if block is not None:
                    blocks[number] = block
                    _refuse_too_many(blocks.values(), max_corrupt)
            todo = [number for number in todo if number not in blocks]
            if todo:
                # Another process is about them, and may be killed at it.
                self._stop_if_asked()
                time.sleep(_WAIT_SECONDS)
        _refuse_too_many(blocks.values(), max_corrupt)
        self._tell_loading(work, self.seconds - before[0], self.seconds_loading - before[1])
        return FeatureTable(self._frozen.layout, [blocks[n] for n in range(len(folder))])

    def forget(self, images: ImageSet, view: View) -> None:
        """Remove the features of a view that nobody will ask for again."""
        shutil.rmtree(self._folder(images, view).folder, ignore_errors=True)

    def rehearse(self, images: ImageSet, view: View) -> Rehearsal:
        """Return the work on the first images of a set, which lie in memory.

        Args:
            images: As in ``table``.
            view: As in ``table``.
        """
        shown = Show(images, view)(range(min(self._config.batch_size, len(images))))
        return Rehearsal(lambda: self._forward(shown), len(shown.pixels))

    def _known(self, folder: BlockFolder) -> dict[int, FeatureBlock]:
        """Return the sound blocks; damaged ones are named."""
        read = {number: folder.read(number) for number in range(len(folder))}
        damaged = [n for n, block in read.items() if block is None and folder.has(n)]
        if damaged:
            self._monitor.say(
                f"{len(damaged)} of {len(folder)} blocks of features in {folder.folder} are "
                "damaged (their checksums differ); they are extracted again."
            )
        return {number: block for number, block in read.items() if block is not None}

    def _tell(self, work: "_Work", something_to_do: bool) -> None:
        about = f"features of {len(work.images):,} {work.what} images"
        if not something_to_do:
            self._monitor.say(f"{about}: from the cache")
        elif self._frozen.device.type == "cpu":
            self._monitor.say(f"{about}: on the CPU, there is no CUDA device")
        else:
            self._monitor.say(f"{about}: on {torch.cuda.get_device_name(self._frozen.device)}")

    def _tell_loading(self, work: "_Work", seconds: float, loading: float) -> None:
        """Say so where images came too slowly for the backbone."""
        if loading > _SLOW_LOADING * seconds:
            self._monitor.say(
                f"features of {work.what}: {100 * loading / seconds:.0f} % of the time there was "
                "no image to look at; reading and decoding are the bottleneck, not the backbone "
                "(more CPU cores, smaller images or a faster disk would help)"
            )

    def _take(self, work: "_Work", number: int) -> FeatureBlock | None:
        """Return a block, made here if need be; None while another process makes it."""
        try:
            held = work.folder.lock(number).acquire()
        except filelock.Timeout:
            return None
        except OSError as error:
            raise cannot_write(work.folder.folder, error) from error
        with held:
            block = work.folder.read(number)
            if block is None:
                self._make(work, number)
                block = work.folder.read(number)
        return block

    def _make(self, work: "_Work", number: int) -> None:
        """Extract and write a block."""
        indices = work.folder.indices(number)
        size = self._config.batch_size
        batches = [indices[at : at + size] for at in range(0, len(indices), size)]
        rows = np.empty((len(indices), work.folder.width), dtype=np.float32)
        unreadable: dict[int, str] = {}
        at = 0
        start = time.perf_counter()
        for shown in self._shown(work, batches):
            self._stop_if_asked()
            count = len(shown.pixels)
            rows[at : at + count] = self._forward(shown)
            unreadable |= {at + place: text for place, text in shown.unreadable.items()}
            at += count
            rate = at / (time.perf_counter() - start)
            done = indices.start + at
            self._monitor.progress(
                Progress(f"features of {work.what}", done, work.folder.num_rows, rate)
            )
        self.images_seen += at
        self.seconds += time.perf_counter() - start
        work.folder.write(number, rows, unreadable)

    def _shown(self, work: "_Work", batches: Sequence[range]) -> Iterator[ViewBatch]:
        show = Show(work.images, work.view)
        on_gpu = self._frozen.device.type == "cuda"
        made = make_in_workers(show, batches, loader_workers(), pin_memory=on_gpu)
        start = time.perf_counter()
        for shown in made:
            self.seconds_loading += time.perf_counter() - start
            yield shown
            start = time.perf_counter()

    @torch.no_grad()
    def _forward(self, shown: ViewBatch) -> Rows:
        """Return the features of a batch of B views as float32 rows, (B, layout.width)."""
        frozen = self._frozen
        pixels = self._pixels.ready({"pixels": shown.pixels})["pixels"]
        low = self._config.precision == "bf16"
        with torch.autocast(frozen.device.type, torch.bfloat16) if low else nullcontext():
            features = frozen.backbone(pixels, num_last_blocks=NUM_LAST_BLOCKS)
        found: Rows = to_rows(features, frozen.layout).cpu().numpy()
        return found

    def _stop_if_asked(self) -> None:
        if self._monitor.should_stop():
            raise StoppedError

    def _folder(self, images: ImageSet, view: View) -> BlockFolder:
        """Return the folder of a table; its name is a hash of all that decides the content."""
        frozen = self._frozen
        content = {
            "version": _VERSION,
            "backbone": frozen.spec.name,
            "weights_and_code": frozen.identity,
            "pixels": [frozen.spec.mean, frozen.spec.std],
            "images": images.fingerprint,
            "view": view.identity(),
            "precision": self._config.precision,
            "layout": asdict(frozen.layout),
            "rows": ROWS,
        }
        folder = self._cache / hash16(content)
        if not (folder / "table.json").exists():
            about = {"images_name": images.name, "num_images": len(images)}
            write_json_atomically(folder / "table.json", {**content, **about})
        return BlockFolder(folder, len(images), frozen.layout.width)


@dataclass(frozen=True)
class _Work:
    """A table to be made."""

    folder: BlockFolder
    images: ImageSet
    view: View
    what: str


def _refuse_too_many(blocks: Iterable[FeatureBlock], limit: int) -> None:
    texts = [text for block in blocks for text in block.unreadable.values()]
    refuse_too_many(dict(enumerate(texts)), limit)


def _identity(backbone: Backbone) -> str:
    """Return a hash of a backbone's weights and of the code of every module in it."""
    digest = hashlib.sha256()
    for name, tensor in backbone.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    files = {inspect.getsourcefile(type(module)) for module in backbone.modules()}
    for path in sorted(file for file in files if file):
        digest.update(sha256_file(Path(path)).encode())
    return digest.hexdigest()[:16]
