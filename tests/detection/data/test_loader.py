import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones.base.errors import PreflightError, UserError
from backbones.training.stream import batches, share_out
from detection.config import (
    DetectionConfig,
    DetectionDataConfig,
    DetectionScheduleConfig,
    EvaluationConfig,
)
from detection.data.dataset import find_coco, load_split
from detection.data.loader import TrainSamples, epoch_order, evaluation_batches

CONFIG = DetectionConfig(
    protocol="test",
    data=DetectionDataConfig(img_size=64),
    schedule=DetectionScheduleConfig(batch_size=4, batch_size_per_device=2),
)
Batches = list[list[dict[str, Any]]]


@pytest.fixture
def images(
    write_coco: Callable[..., Path], coco_content: Callable[..., Any]
) -> list[dict[str, Any]]:
    return load_split(find_coco(write_coco(coco_content(7))), "train")


def stream_of(
    images: list[dict[str, Any]],
    seed: int = 0,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
) -> Iterator[list[dict[str, Any]]]:
    samples, share = (
        TrainSamples(images, CONFIG.data, seed),
        share_out(CONFIG.schedule, rank, world_size),
    )
    stream = batches(samples, share, start_step, num_workers)
    try:
        for loaded in stream:
            assert loaded.images == ids(loaded.batch["samples"])
            yield loaded.batch["samples"]
    finally:
        stream.close()


def take(count: int, images: list[dict[str, Any]], **options: Any) -> Batches:
    return list(islice(stream_of(images, **options), count))


def assert_same(first: Batches, second: Batches) -> None:
    assert [ids(batch) for batch in first] == [ids(batch) for batch in second]
    for a, b in zip(chain(*first), chain(*second), strict=True):
        assert torch.equal(a["image"], b["image"])
        left, right = a["instances"], b["instances"]
        assert torch.equal(left.gt_boxes.tensor, right.gt_boxes.tensor)
        masks = [i.gt_masks.to_bitmasks().tensor for i in (left, right)]
        assert torch.equal(*masks)


def ids(batch: list[dict[str, Any]]) -> list[int]:
    return [item["image_id"] for item in batch]


def test_each_epoch_has_each_image_once_in_its_own_order(images: list[dict[str, Any]]) -> None:
    stream = [i for batch in take(14, images) for i in ids(batch)]
    assert len(stream) == 28
    epochs = [stream[start : start + 7] for start in range(0, 28, 7)]
    assert all(sorted(epoch) == [1, 2, 3, 4, 5, 6, 7] for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4
    assert epochs[2] == [images[i]["image_id"] for i in epoch_order(7, 0, 2)]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(images: list[dict[str, Any]], num_workers: int) -> None:
    assert_same(take(9, images), take(9, images, num_workers=num_workers))


@pytest.mark.parametrize("step", [1, 3, 8])
def test_stream_can_be_entered_at_any_step(images: list[dict[str, Any]], step: int) -> None:
    whole = take(20, images)
    assert_same(whole[2 * step :], take(20 - 2 * step, images, start_step=step))


def test_processes_share_the_stream_of_one(images: list[dict[str, Any]]) -> None:
    alone = take(8, images)
    shares = [take(4, images, rank=rank, world_size=2) for rank in range(2)]
    together = [shares[number % 2][number // 2] for number in range(8)]
    assert_same(alone, together)


def test_seeds_differ(images: list[dict[str, Any]]) -> None:
    assert [ids(b) for b in take(8, images)] != [ids(b) for b in take(8, images, seed=1)]


def test_an_image_is_varied_anew_in_each_epoch(images: list[dict[str, Any]]) -> None:
    sums: dict[int, set[int]] = {}
    for item in chain(*take(14, images)):
        sums.setdefault(item["image_id"], set()).add(int(item["image"].sum()))
    assert [len(found) for found in sums.values()] == [4] * 7


def test_global_generators_are_left_alone(images: list[dict[str, Any]]) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    take(2, images)
    take(2, images, num_workers=1)
    assert torch.equal(torch.rand(3), expected)


def test_batch_that_cannot_be_shared_is_refused(images: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="3 processes"):
        take(1, images, world_size=3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_damaged_image_is_one_sentence(images: list[dict[str, Any]], num_workers: int) -> None:
    path = Path(images[3]["file_name"])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(PreflightError) as caught:
        take(9, images, num_workers=num_workers)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def workers_of(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in children]


@pytest.fixture
def running(images: list[dict[str, Any]]) -> Iterator[tuple[Iterator[Any], list[int]]]:
    """A stream with two workers, and their process ids."""
    before = set(workers_of(os.getpid()))
    stream = stream_of(images, num_workers=2)
    next(stream)
    yield stream, [pid for pid in workers_of(os.getpid()) if pid not in before]
    stream.close()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_workers_outlive_signals_to_the_job(
    running: tuple[Iterator[Any], list[int]], images: list[dict[str, Any]], name: str
) -> None:
    stream, workers = running
    assert len(workers) == 2
    sender = os.fork()
    if sender == 0:
        for worker in workers:
            os.kill(worker, getattr(signal, name))
        os._exit(0)
    os.waitpid(sender, 0)
    time.sleep(0.2)
    assert_same(take(12, images)[1:], list(islice(stream, 11)))


def test_workers_end_with_the_stream(running: tuple[Iterator[Any], list[int]]) -> None:
    stream, workers = running
    stream.close()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/status").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_end_when_their_parent_says_so(
    running: tuple[Iterator[Any], list[int]],
) -> None:
    _, workers = running
    (worker,) = (one for one in multiprocessing.active_children() if one.pid == workers[0])
    os.kill(workers[0], signal.SIGTERM)
    # The parent is this process, so the worker goes. Only multiprocessing may wait for it: one that
    # os.waitpid has collected counts as alive there for ever.
    worker.join(20)
    assert worker.exitcode == 0


def test_the_parent_keeps_its_signals(images: list[dict[str, Any]]) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    stream = stream_of(images, num_workers=1)
    next(stream)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    stream.close()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_sees_each_image_once_in_order(
    images: list[dict[str, Any]], num_workers: int
) -> None:
    config = EvaluationConfig(short_side=48, max_size=64, batch_size_per_device=2)
    alone = list(evaluation_batches(images, config, num_workers=num_workers))
    assert [ids(batch) for batch in alone] == [[1, 2], [3, 4], [5, 6], [7]]
    shares = [
        [ids(b) for b in evaluation_batches(images, config, rank=rank, world_size=3)]
        for rank in range(3)
    ]
    assert shares == [[[1, 4], [7]], [[2, 5]], [[3, 6]]]
    assert list(evaluation_batches(images[:2], config, rank=2, world_size=3)) == []
