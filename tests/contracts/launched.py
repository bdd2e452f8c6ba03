"""Pretrains a small run as a process of its own: ``python -m tests.contracts.launched NAME …``."""

import json
import os
import sys
from pathlib import Path

from backbones.base.distributed import rank
from backbones.catalog import get_spec
from pretrain.train import PretrainJob, pretrain
from tests.contracts.test_methods import Stop, small


class Listener(Stop):
    """Notes losses; only the first rank is told of them."""

    def __init__(self, path: Path) -> None:
        super().__init__(after=99)
        self.path = path

    def progress(self, progress):
        super().progress(progress)
        assert rank() == 0
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(self.losses))


def main(name: str, photos: str, out: str) -> None:
    config = small(name, processes=int(os.environ.get("WORLD_SIZE", "1")))
    spec = get_spec(config.backbone)
    job = PretrainJob(
        spec, config, Path(photos), Path(out), 5, Path(out) / "cache", name, num_workers=0
    )
    pretrain(job, Listener(Path(out) / "losses.json"))


if __name__ == "__main__":
    main(*sys.argv[1:])
