"""A later command removes what killed writers left, everywhere in a folder of runs."""

import os
import subprocess
import sys

import pytest

from backbones.base import leftovers
from benchmarks.store.folders import Store
from benchmarks.store.killed_writes import remove_killed_writes


@pytest.mark.parametrize(
    "place",
    ["", ".cache", ".cache/features/abc", ".slurm", ".slurm/code", "run", "run/work/states"],
)
def test_leftovers_go_wherever_they_lie(tmp_path, place):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    own = leftovers.prefix_of("file")
    part = folder / f"{own.replace(f'-{os.getpid()}.', f'-{gone.pid}.')}x.part"
    part.write_bytes(b"half")
    living = folder / f"{own}x.part"
    living.write_bytes(b"half")
    remove_killed_writes(Store(tmp_path), ["run"])
    assert not part.exists()
    assert living.exists()
