"""What every test shares: small thread counts, turns of their own and the optional real data."""

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.work.interrupt import SIGNALS

# Two busy libraries on two cores spin against each other; one thread each is faster and repeatable.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Runs of a test must not pause for those of another test process, nor for a run of the machine.
os.environ["BACKBENCH_TURNS"] = tempfile.mkdtemp(prefix="backbench-turns-")
atexit.register(shutil.rmtree, os.environ["BACKBENCH_TURNS"], ignore_errors=True)


@pytest.fixture(autouse=True)
def handlers_as_they_were() -> Iterator[None]:
    """Undo what a command that a test calls in this process makes of signals that ask to stop.

    A command ends its process, so it leaves its handlers. In the next test, forked workers would
    outlive the SIGTERM that is to end them, and the test would wait for them for ever.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real images beside the checkout, or skip."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real images: the folder ../shared/data is absent")
    return folder


@pytest.fixture(scope="session")
def keymaps() -> Path:
    """Return the folder of official checkpoints' key layouts beside the checkout, or skip."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "reference" / "keymaps"
    if not folder.is_dir():
        pytest.skip("no official layouts: the folder ../shared/reference/keymaps is absent")
    return folder
