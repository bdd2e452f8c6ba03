"""Batch norms and negatives over two processes are those of the whole batch in one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.training import norms
from backbones.training.norms import recompute, synchronise

ROOT = Path(__file__).resolve().parents[2]


def launch(out, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.pretrain.launched_pair", out],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_see_one_batch(tmp_path):
    """Loss, every gradient and every running statistic of a contrast behind 20 batch norms."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = [launch(tmp_path / "one.pt")]
    processes += [
        launch(tmp_path / "two.pt", WORLD_SIZE="2", RANK=rank, LOCAL_RANK=rank, **group)
        for rank in "01"
    ]
    for process in processes:
        _, text = process.communicate(timeout=300)
        assert process.returncode == 0, text
    one, two = (torch.load(tmp_path / f"{name}.pt") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert any(name.startswith("gradient of student.backbone.net.bn1") for name in one)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-8, atol=1e-10, msg=name)


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4, momentum=None), BatchNormAct2d(4)
    ).double()


def test_formulas_are_torchs(monkeypatch):
    """With one process that is told it is two which see the same."""
    images = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    plain, shared = build(), build()
    synchronise(shared)
    monkeypatch.setattr(norms, "world_size", lambda: 2)
    monkeypatch.setattr(norms, "sum_over_ranks", lambda values: 2 * values)
    for network in (plain, shared):
        seen = torch.cat([images, images]) if network is plain else images
        for _ in range(2):
            out = network(seen)
        (out**3).mean().backward()
    torch.testing.assert_close(shared[0].weight.grad, plain[0].weight.grad)
    torch.testing.assert_close(shared(images), plain(torch.cat([images, images]))[:5])
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value, msg=name)
    shared.eval()
    plain.eval()
    torch.testing.assert_close(shared(images), plain(images))


def test_names_stay():
    plain, shared = build(), build()
    synchronise(shared)
    assert list(plain.state_dict()) == list(shared.state_dict())
    assert isinstance(shared[1], norms.SharedBatchNorm)
    assert isinstance(shared[3], norms.SharedBatchNormAct)


@pytest.mark.parametrize("name", ["resnet-nano", "cvt-nano"])
def test_running_statistics_follow_once_where_activations_are_recomputed(name):
    found = []
    for again in (False, True):
        torch.manual_seed(0)
        backbone = get_spec(name).build(BuildOptions(img_size=64)).train()
        if again:
            recompute(backbone)
        images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        backbone.forward_maps(images)[-1].square().mean().backward()
        gradients = {f"gradient of {n}": p.grad for n, p in backbone.named_parameters()}
        found.append({**backbone.state_dict(), **gradients})
    plain, recomputed = found
    assert any(name.endswith("num_batches_tracked") for name in plain)
    assert plain.keys() == recomputed.keys()
    for key, value in plain.items():
        torch.testing.assert_close(recomputed[key], value, msg=key)
