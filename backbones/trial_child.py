"""The process in which ``backbones.trial`` tries a network: ``python -m backbones.trial_child``."""

import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from backbones.base.errors import UserError
from backbones.base.files import write_json_atomically
from backbones.catalog import get_spec
from backbones.check import check_backbone
from backbones.checkpoint import FRESH, Checkpoint
from backbones.spec import BackboneSpec, BuildOptions
from backbones.trial import TrialVerdict

# Of larger networks the check would take minutes and tens of gigabytes.
_LARGEST = 400_000_000

# Relative to the largest value, since convolutions of another layout sum in another order.
_TOLERANCE = 1e-3


def main(name: str, plugins: str, out: str) -> None:
    """Check a network and write the verdict, at first without channels last, then with.

    Args:
        name: Of the network.
        plugins: Folder of plug-ins; empty for none.
        out: File to write.
    """
    warnings.simplefilter("ignore")  # the libraries' own, about each other
    spec = get_spec(name, Path(plugins) if plugins else None)
    with torch.device("meta"):
        size = sum(p.numel() for p in spec.build(BuildOptions(spec.img_size)).parameters())
    if size > _LARGEST:
        write_json_atomically(Path(out), asdict(TrialVerdict(channels_last=False)))
        return
    results = check_backbone(spec, Checkpoint(backbone=name, path=None, sha256=FRESH))
    failures = {result.name: result.detail for result in results if not result.passed}
    write_json_atomically(Path(out), asdict(TrialVerdict(failures, channels_last=False)))
    if _works_with_channels_last(spec):
        write_json_atomically(Path(out), asdict(TrialVerdict(failures, channels_last=True)))


def _works_with_channels_last(spec: BackboneSpec) -> bool:
    """Return whether a step with channels last gives the features of one without."""
    torch.manual_seed(0)
    net: Any = spec.build(BuildOptions(spec.img_size)).eval()
    images = torch.randn(2, 3, spec.img_size, spec.img_size)
    try:
        plain = net(images).pooled.detach()
        net.to(memory_format=torch.channels_last)
        last = net(images.contiguous(memory_format=torch.channels_last))
        torch.autograd.backward(last.pooled.square().mean())
    except (RuntimeError, UserError):
        return False
    difference = (last.pooled.detach() - plain).abs().max()
    return bool(difference <= _TOLERANCE * plain.abs().max())


if __name__ == "__main__":
    main(*sys.argv[1:])
