"""The training stream: the same samples, whoever loads them."""

import itertools
import multiprocessing

import pytest
import torch

from backbones.base.errors import PreflightError, UserError
from backbones.training.config import ScheduleConfig
from backbones.training.stream import Share, batches, epoch_order, share_out
from pretrain.data.find import find_images
from pretrain.stream import Samples
from tests.pretrain.conftest import ToyViews


@pytest.fixture
def images(photos, tmp_path):
    return find_images(photos, tmp_path)


def take(images, count, *, share=None, start=0, workers=0, seed=7, max_corrupt=0):
    samples = Samples(images, ToyViews(), seed, max_corrupt)
    stream = batches(samples, share or Share(6, 3), start, workers)
    return [loaded.batch for loaded in itertools.islice(stream, count)]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(images, workers):
    assert_same(take(images, 8, workers=workers), take(images, 8))


def test_two_processes_share_what_one_would_see(images):
    alone = take(images, 8)
    pair = [take(images, 4, share=Share(6, 3, rank, 2)) for rank in (0, 1)]
    assert_same([batch for both in zip(*pair, strict=True) for batch in both], alone)


def test_a_stream_can_be_entered_at_any_step(images):
    assert_same(take(images, 4, start=2), take(images, 8)[4:])


def test_an_epoch_holds_every_image_once_and_the_next_another_order(images):
    indices = torch.cat([batch["index"] for batch in take(images, 14)])
    first, second = indices[:20], indices[20:40]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))
    assert not torch.equal(first, second)
    assert torch.equal(first, epoch_order(20, 7, 0))


def test_views_of_an_image_differ_between_epochs_and_seeds(images):
    def noise(seed, epoch):
        drawn = take(images, 14, seed=seed)
        index = torch.cat([batch["index"] for batch in drawn])[epoch * 20 : epoch * 20 + 20]
        values = torch.cat([batch["noise"] for batch in drawn])[epoch * 20 : epoch * 20 + 20]
        return values[index.argsort()]

    assert not (noise(7, 0) == noise(7, 1)).any()
    assert not (noise(7, 0) == noise(8, 0)).any()


def test_batches_hold_labels_where_images_have_classes(images):
    for batch in take(images, 4):
        assert [images.label(i) for i in batch["index"].tolist()] == batch["label"].tolist()


def broken(images, monkeypatch, *bad):
    read = images.read
    monkeypatch.setattr(images, "read", lambda i: b"\xff\xd8junk" if i in bad else read(i))
    return images


def test_an_unreadable_image_is_named_and_replaced_by_the_next(images, monkeypatch):
    broken(images, monkeypatch, 3, 4)
    loaded = Samples(images, ToyViews(), 7, max_corrupt=2)(range(20))
    assert sorted(loaded.batch["index"].tolist()) == sorted([*(set(range(20)) - {3, 4}), 5, 5])
    assert set(loaded.unreadable) == {3, 4}
    assert images.name_of(3) in loaded.unreadable[3]


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_unreadable_images_stop_the_run(images, monkeypatch, workers):
    broken(images, monkeypatch, 3, 4)
    with pytest.raises(PreflightError, match=r"2 images cannot be read, more than .* = 1 allows"):
        take(images, 14, max_corrupt=1, workers=workers)


def test_workers_end_with_the_run_whoever_keeps_its_error(images, monkeypatch):
    broken(images, monkeypatch, 3, 4)
    with pytest.raises(PreflightError) as kept:
        take(images, 14, max_corrupt=1, workers=1)
    assert kept.value.__traceback__
    # A worker that lived on would hold every pipe and lock that this process had open.
    assert multiprocessing.active_children() == []


def test_a_set_without_a_readable_image_stops_the_run(images, monkeypatch):
    broken(images, monkeypatch, *range(20))
    with pytest.raises(PreflightError, match=r"Not one image of .* can be read"):
        take(images, 1, max_corrupt=100)


def test_a_batch_that_cannot_be_shared_out_is_refused():
    schedule = ScheduleConfig(batch_size=12, batch_size_per_device=4)
    assert share_out(schedule, 0, 3).micro_batches == 1
    with pytest.raises(UserError, match=r"cannot be shared out"):
        share_out(schedule, 0, 2)
