"""Stops the toy job while a state is slow to be written: ``… .launched_stop PHOTOS OUT``."""

import sys
import time
from pathlib import Path

import pytest

import pretrain.train
from backbones.base.errors import StoppedError
from backbones.training.state import StateFolder
from pretrain.train import PretrainJob
from tests.pretrain.conftest import TOY_METHOD, TOY_SPEC, StopAfter, toy_config

_SAVE = StateFolder.save


def main(photos: str, out: str) -> None:
    """Fail if this process leaves before the state is there."""
    pretrain.train.get_method = lambda name: TOY_METHOD
    StateFolder.save = _slowly
    config = toy_config(batch_size_per_device=2, epochs=20.0)
    job = PretrainJob(
        TOY_SPEC, config, Path(photos), Path(out), 3, Path(out) / "cache", num_workers=0
    )
    with pytest.raises(StoppedError):
        pretrain.train.pretrain(job, StopAfter(10))
    assert (Path(out) / "states" / "step-00000010.json").is_file()


def _slowly(states, state):
    time.sleep(2)
    return _SAVE(states, state)


if __name__ == "__main__":
    main(*sys.argv[1:])
