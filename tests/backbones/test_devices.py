"""Threads of a training process: a number in OMP_NUM_THREADS decides, an empty one does not."""

import os

import pytest
import torch

from backbones.base.devices import arithmetic_of, choose_threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_an_empty_variable_is_not_a_choice(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert choose_threads(CPU, num_workers=1) == torch.get_num_threads() == 3
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose_threads(CPU, num_workers=1) == 2


def test_arithmetic_names_threads_and_kernels():
    torch.set_num_threads(1)
    kernels = torch.backends.cpu.get_cpu_capability()
    assert arithmetic_of(CPU) == f"1 x 1 thread with {kernels} kernels"
    torch.set_num_threads(2)
    assert arithmetic_of(CPU) == f"1 x 2 threads with {kernels} kernels"
