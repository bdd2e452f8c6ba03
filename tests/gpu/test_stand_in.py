"""The tests for GPUs pass in the stand-in, which needs none."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.gpu.stand_in.build import built, environment

ROOT = Path(__file__).resolve().parents[2]


def in_stand_in(*command: str, gpus: int = 1) -> subprocess.CompletedProcess[str]:
    folder, why_not = built()
    if folder is None:
        pytest.skip(f"the stand-in cannot be built: {why_not}")
    if torch.version.cuda is None:
        pytest.skip("torch is built without CUDA")
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment(folder, gpus),
        capture_output=True,
        text=True,
        check=False,
    )


_CODE = """
import torch
a = torch.arange(6.0, device="cuda").view(2, 3)
assert torch.cuda.device_count() == 2
assert (a @ a.T).cpu().tolist() == [[5.0, 14.0], [14.0, 50.0]]
a[:, 1] = 7
assert a.cpu().tolist() == [[0.0, 7.0, 2.0], [3.0, 7.0, 5.0]]
q = torch.randn(1, 2, 5, 8, device="cuda", requires_grad=True)
out = torch.nn.functional.scaled_dot_product_attention(q, q, q)
out.sum().backward()
here = q.detach().cpu().requires_grad_()
torch.nn.functional.scaled_dot_product_attention(here, here, here).sum().backward()
torch.testing.assert_close(q.grad.cpu(), here.grad)
for wrong in (lambda: a + torch.ones(3), lambda: a + torch.ones(3, device="cuda:1")):
    try:
        wrong()
    except RuntimeError as error:
        assert "same device" in str(error)
    else:
        raise AssertionError("devices were mixed")
"""


def test_operators_compute_and_devices_do_not_mix():
    done = in_stand_in("-c", _CODE, gpus=2)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_the_tests_for_gpus_pass():
    done = in_stand_in(
        *("-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu/test_gpu.py")
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "skipped" not in done.stdout.splitlines()[-1]
