"""What an objective makes of the first images: the same for any sharing of the batch."""

from dataclasses import replace

import pytest
import torch

from backbones.base.monitor import SilentMonitor
from backbones.catalog import get_spec
from backbones.weights.files import read_safetensors
from pretrain.catalog import get_recipe
from pretrain.train import PretrainJob, pretrain


@pytest.mark.parametrize("method", ["mae", "lomar"])
def test_principal_components_do_not_depend_on_batches(method, photos, tmp_path):
    """Nor on the number of processes, each of which sees the same first images."""
    recipe = get_recipe(f"{method}-nano")
    config = replace(
        recipe,
        model=replace(recipe.model, target="pca", num_components=7),
        data=replace(recipe.data, img_size=32),
    )
    found = []
    for size, per_device in ((4, 4), (4, 1), (2, 2)):
        schedule = replace(
            config.schedule, epochs=0.2, batch_size=size, batch_size_per_device=per_device,
            warmup_epochs=0.0,
        )  # fmt: skip
        spec, out = get_spec("vit-nano"), tmp_path / f"{size}-{per_device}"
        sized = replace(config, schedule=schedule)
        outcome = pretrain(
            PretrainJob(spec, sized, photos, out, 3, tmp_path, num_workers=0), SilentMonitor()
        )
        found.append(read_safetensors(outcome.objective_file))
    for other in found[1:]:
        assert torch.equal(other["target.basis"], found[0]["target.basis"])
        assert torch.equal(other["target.center"], found[0]["target.center"])
    basis = found[0]["target.basis"].double()
    torch.testing.assert_close(
        basis.T @ basis, torch.eye(7, dtype=torch.float64), rtol=0, atol=1e-5
    )
