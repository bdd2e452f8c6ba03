"""What is done with frozen features, against the least that it could cost.

::

    python benchmarks/perf/features_speed.py                 # 5 rounds of every case
    python benchmarks/perf/features_speed.py 9 knn           # 9 rounds of one

* **knn**: 5,000 queries against 50,000 rows of 768, 1,000 classes, against the matrix product alone
  and against the operations of the official loop (facebookresearch/dino ``eval_knn.py``: a hundred
  chunks, top-k, one-hot votes, sorted classes). The verdicts must be equal.
* **extraction**: photographs to features on disk, against the forward pass alone on pixels that are
  there already.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from benchmarks.perf.measure import Candidate, alternate, print_comparison

_ROUNDS = 5
_HERE = "benchmarks.perf.features_speed"

_TRAIN, _TEST, _WIDTH, _CLASSES, _K, _T = 50_000, 5_000, 768, 1_000, 20, 0.07
_CHUNKS = 100  # facebookresearch/dino eval_knn.py
_PRODUCT_ROWS = 1_024

_BACKBONE, _IMAGES, _BATCH, _SIDES = "vit-b16", 64, 32, (500, 375)


def main(args: list[str]) -> None:
    """Compare every case, or those named.

    Args:
        args: Number of rounds, then names of cases; both may be left out.
    """
    rounds = int(args[0]) if args else _ROUNDS
    for case in args[1:] or CASES:
        CASES[case](rounds)


def _compare_knn(rounds: int) -> None:
    same = torch.equal(knn_ours()(), knn_official()())
    print(f"knn: verdicts of both loops {'are equal' if same else 'DIFFER'}")
    sides = [
        Candidate("ours", f"{_HERE}:knn_ours"),
        Candidate("matrix product alone", f"{_HERE}:knn_product"),
        Candidate("operations of the official loop", f"{_HERE}:knn_official"),
    ]
    comparison = alternate(sides, rounds=rounds)
    print_comparison("knn", comparison, 2e-9 * _TRAIN * _TEST * _WIDTH)
    for side in (sides[0], sides[2]):
        share = 100 * comparison.ratio("matrix product alone", side.name)
        on_cores = 100 * comparison.cpu_ratio("matrix product alone", side.name)
        print(
            f"  of {side.name}, {share:.0f} % is the matrix product ({on_cores:.0f} % by time on "
            "the cores)"
        )


def _compare_extraction(rounds: int) -> None:
    sides = [
        Candidate("photographs to features", f"{_HERE}:extraction_ours"),
        Candidate("forward pass alone", f"{_HERE}:extraction_forward"),
    ]
    comparison = alternate(sides, rounds=rounds)
    print_comparison(f"extraction, {_BACKBONE}, {_IMAGES} images", comparison)
    more = 100 * comparison.ratio(sides[0].name, sides[1].name) - 100
    on_cores = 100 * comparison.cpu_ratio(sides[0].name, sides[1].name) - 100
    print(
        f"  reading, decoding, resizing and writing add {more:.0f} % ({on_cores:.0f} % by time on "
        "the cores)"
    )


CASES: dict[str, Callable[[int], None]] = {
    "knn": _compare_knn,
    "extraction": _compare_extraction,
}


@cache
def _features(count: int, width: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return rows that lie about the middles of their classes, and the classes."""
    middles = torch.randn(classes, width, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    return middles[labels] + 4 * torch.randn(count, width, generator=generator), labels


def knn_ours() -> Callable[[], Tensor]:
    """Return our classification as a step; it returns the classes."""
    from benchmarks.labelled.knn import Bank, classify

    (train, labels), (test, truth) = (
        _features(n, _WIDTH, _CLASSES, s) for n, s in ((_TRAIN, 1), (_TEST, 2))
    )
    rows = Bank(lambda start, end: train[start:end], labels)
    queries = Bank(lambda start, end: test[start:end], truth)

    def step() -> Tensor:
        return classify(rows, queries, (_K,), _T, torch.device("cpu"))[_K].predicted

    return step


def knn_product() -> Callable[[], None]:
    """Return the products of all queries and rows as a step, into memory that is there."""
    rows, queries = (
        F.normalize(_features(n, _WIDTH, _CLASSES, s)[0]) for n, s in ((_TRAIN, 1), (_TEST, 2))
    )
    room = torch.empty(_PRODUCT_ROWS, _TRAIN)

    def step() -> None:
        for piece in torch.split(queries, _PRODUCT_ROWS):
            torch.mm(piece, rows.T, out=room[: len(piece)])

    return step


def knn_official() -> Callable[[], Tensor]:
    """Return a step that does what the official loop does, operation by operation."""
    (train, labels), (test, _) = (
        _features(n, _WIDTH, _CLASSES, s) for n, s in ((_TRAIN, 1), (_TEST, 2))
    )
    rows, queries = F.normalize(train).T, F.normalize(test)

    def step() -> Tensor:
        predicted = []
        for piece in queries.chunk(_CHUNKS):
            similar, nearest = (piece @ rows).topk(_K, largest=True, sorted=True)
            classes = labels.expand(len(piece), -1).gather(1, nearest)
            hot = torch.zeros(len(piece) * _K, _CLASSES).scatter_(1, classes.view(-1, 1), 1)
            votes = (similar / _T).exp().view(len(piece), _K, 1)
            ranked = (hot.view(len(piece), _K, _CLASSES) * votes).sum(dim=1).sort(1, True)[1]
            predicted.append(ranked[:, 0])
        return torch.cat(predicted)

    return step


def extraction_ours() -> Callable[[], None]:
    """Return an extraction as a step, every time into an empty cache."""
    from backbones.base.monitor import SilentMonitor
    from backbones.catalog import get_spec
    from backbones.weights.source import open_checkpoint
    from benchmarks.labelled.config import CentralViewConfig, ExtractionConfig
    from benchmarks.labelled.features.extract import Extractor, freeze
    from benchmarks.labelled.features.views import CentralView
    from pretrain.data.find import find_images

    folder = Path(tempfile.mkdtemp())
    _draw_photographs(folder / "images" / "a")
    images = find_images(folder / "images", folder)
    checkpoint = open_checkpoint(f"random:{_BACKBONE}")
    frozen = freeze(get_spec(_BACKBONE), checkpoint, CentralViewConfig().img_size, seed=0)
    config, view = ExtractionConfig(batch_size=_BATCH), CentralView.of(CentralViewConfig())

    def step() -> None:
        extractor = Extractor(frozen, config, folder, SilentMonitor())
        extractor.table(images, view, "train", max_corrupt=0)
        extractor.forget(images, view)

    return step


def extraction_forward() -> Callable[[], None]:
    """Return the forward passes of as many images as a step."""
    from backbones.catalog import get_spec
    from backbones.weights.source import open_checkpoint
    from benchmarks.labelled.config import CentralViewConfig
    from benchmarks.labelled.features.extract import freeze

    size = CentralViewConfig().img_size
    checkpoint = open_checkpoint(f"random:{_BACKBONE}")
    frozen = freeze(get_spec(_BACKBONE), checkpoint, size, seed=0)
    pixels = torch.randn(_BATCH, 3, size, size)

    def step() -> None:
        with torch.no_grad():
            for _ in range(_IMAGES // _BATCH):
                frozen.backbone(pixels)

    return step


def _draw_photographs(folder: Path) -> None:
    """Write JPEGs of the size of ImageNet's photographs, smooth and noisy as those are."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(_IMAGES):
        coarse = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(_SIDES, Image.Resampling.BICUBIC))
        noisy = np.clip(smooth + generator.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:04d}.jpg", quality=90)


if __name__ == "__main__":
    main(sys.argv[1:])
