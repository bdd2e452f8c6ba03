"""Runs the toy job as a process of its own: ``python -m tests.pretrain.launched PHOTOS OUT``."""

import sys
from pathlib import Path

import pretrain.train
from pretrain.train import PretrainJob
from tests.pretrain.conftest import TOY_METHOD, TOY_SPEC, StopAfter, toy_config


def main(photos: str, out: str, per_device: str) -> None:
    pretrain.train.get_method = lambda name: TOY_METHOD
    config = toy_config(batch_size_per_device=int(per_device), epochs=20.0)
    job = PretrainJob(
        TOY_SPEC,
        config,
        Path(photos),
        Path(out),
        3,
        Path(out) / "cache",
        num_workers=0,
        timed=True,
    )
    pretrain.train.pretrain(job, StopAfter())


if __name__ == "__main__":
    main(*sys.argv[1:])
