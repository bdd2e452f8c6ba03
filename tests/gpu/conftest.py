"""Tests that need a GPU, or the stand-in: ``make test-gpu``."""

import pytest
import torch


@pytest.fixture(autouse=True)
def gpu(request):
    """Return the GPU, or skip."""
    if request.node.get_closest_marker("gpu") is None:
        return None
    if not torch.cuda.is_available():
        pytest.skip("no GPU is visible; `make test-gpu` brings a stand-in")
    return torch.device("cuda", 0)
