"""What a loader process sends: one buffer for each micro-batch, however many tensors are in it."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.base.packing import pack

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Sample:
    name: str
    pixels: torch.Tensor
    boxes: np.ndarray


def test_an_item_comes_back_as_it_was():
    item = [
        Sample("one", torch.arange(24, dtype=torch.uint8).view(3, 2, 4), np.eye(3)),
        {"mask": torch.tensor([True, False, True]), "label": torch.tensor(7), "none": None},
        (torch.randn(5, 4, dtype=torch.float64).t(), torch.empty(0, 4), torch.ones(2).bfloat16()),
    ]
    packed = pack(item)
    (one, two, three) = packed.unpack()
    assert one.name == "one"
    assert torch.equal(one.pixels, item[0].pixels)
    assert np.array_equal(one.boxes, item[0].boxes)
    assert torch.equal(two["mask"], item[1]["mask"])
    assert (two["label"].item(), two["label"].shape, two["none"]) == (7, (), None)
    for found, expected in zip(three, item[2], strict=True):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert torch.equal(found, expected)
    assert one.pixels.untyped_storage().data_ptr() == three[0].untyped_storage().data_ptr()


def test_a_tensor_that_occurs_twice_is_sent_once():
    twice = torch.arange(1000)
    packed = pack([twice, twice])
    assert packed._buffer.nbytes < 2 * twice.nbytes
    one, other = packed.unpack()
    assert torch.equal(one, other)


# Seven tensors a sample, 32 samples, four processes that prepare two batches each: as many open
# files as the tensors, where each is a file of its own.
_LOADS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
import torch
from backbones.base.workers import make_in_workers
def make(key):
    return [[torch.full((64,), key + n) for n in range(7)] for _ in range(32)]
for key, batch in enumerate(make_in_workers(make, range(24), 4)):
    assert all(int(t[0]) == key + n for sample in batch for n, t in enumerate(sample))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("soft", "hard", "raised"), [(256, 256, 256), (200, 1024, 1024)])
def test_32_samples_by_four_processes_stay_below_the_limit_on_open_files(soft, hard, raised):
    code = _LOADS.format(soft=soft, hard=hard)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [str(raised)]
