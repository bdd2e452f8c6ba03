"""Files of other projects open by their names alone and give what the projects' own code gives.

``recorded/official/`` holds one file a network, see ``recorded_networks``.
"""

from pathlib import Path

import pytest
import torch

from tests.parity.backbones.recorded_networks import HERE, images, numbers, opened, worst

RECORDED = sorted((HERE / "recorded" / "official").glob("*.npz"))


@torch.no_grad()
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.stem)
def test_values_are_those_of_the_original_code(tmp_path: Path, recorded: Path) -> None:
    backbone, expected = opened(recorded, tmp_path, build=0)
    found = numbers(backbone, images(expected["size"], expected.get("n", 2)))
    for what in found.keys() & expected.keys():
        assert worst(found[what], expected[what]) <= 1e-5, what


@torch.no_grad()
def test_sam_keeps_its_tables_when_built_for_other_images(tmp_path: Path) -> None:
    backbone, expected = opened(HERE / "recorded" / "official" / "sam.npz", tmp_path, build=64)
    assert worst(backbone(images(96, 2)).maps[-1], expected["map"]) <= 1e-5
