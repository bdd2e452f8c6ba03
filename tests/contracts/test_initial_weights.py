"""``--init-from`` an encoder, over all methods: what is filled, what is fresh, what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backbones.base.errors import PreflightError, UserError
from backbones.catalog import get_spec
from backbones.checkpoint import Checkpoint
from backbones.features import Backbone
from backbones.spec import BuildOptions
from backbones.training.objective import Objective
from backbones.weights.files import save_weights
from pretrain.catalog import get_recipe, recipes
from pretrain.config import PretrainConfig
from pretrain.initial import Planned, load_initial, plan_initial
from pretrain.method import get_method
from pretrain.objective_file import save_objective
from pretrain.train import PretrainJob, build_objective, pretrain
from tests.contracts.test_methods import Stop, photos, small

__all__ = ["photos"]
NANO = sorted(name for name in recipes() if name.endswith("-nano"))
# What no encoder brings, by method: written down here, not read from the code.
FRESH = {
    "mae": {"decoder"},
    "lomar": {"head", "mask_token"},
    "simmim": {"head", "mask_token"},
    "supervised": {"head"},
    "dino": {"student.head", "teacher.head", "view_center"},
    "esvit": {
        *("student.head", "teacher.head", "view_center"),
        *("student.region_head", "teacher.region_head", "region_center"),
    },
    "mocov3": {"student.projector", "teacher.projector", "predictor"},
}


def written(folder: Path, backbone: str, size: int) -> tuple[Path, dict[str, torch.Tensor]]:
    """Weights of this program: no layer keeps the numbers that a build gives it."""
    network = get_spec(backbone).build(BuildOptions(img_size=size))
    generator = torch.Generator().manual_seed(7)
    for parameter in network.parameters():
        parameter.data.normal_(std=0.05, generator=generator)
    record = Checkpoint(backbone, None, "", method="other", img_size=size)
    path = folder / f"{backbone}-{size}.safetensors"
    save_weights(network, path, record)
    return path, dict(network.state_dict())


def classed(config: PretrainConfig) -> PretrainConfig:
    return replace(config, data=replace(config.data, num_classes=2))


def encoders_of(objective: torch.nn.Module) -> list[Backbone]:
    """Every backbone in an objective, found by type, not by what it says of itself."""
    return [module for module in objective.modules() if isinstance(module, Backbone)]


@pytest.mark.parametrize("name", NANO)
def test_an_encoder_fills_every_copy_and_fresh_parts_are_named(name, photos, tmp_path):
    config = classed(get_recipe(name).resolved())
    spec, method = get_spec(config.backbone), get_method(config.method)
    path, state = written(tmp_path, config.backbone, config.data.img_size)
    checkpoint, planned = plan_initial(str(path), Planned(config, photos, tmp_path))
    objective = build_objective(method, spec, config, seed=3)
    before = {k: v.clone() for k, v in objective.state_dict().items()}
    said = load_initial(objective, method.name, spec, checkpoint, config.data.img_size)
    encoders = encoders_of(objective)
    assert len(encoders) == (2 if config.method in ("dino", "esvit", "mocov3") else 1)
    for encoder in encoders:
        for key, value in encoder.state_dict().items():
            assert torch.equal(value, state[key]), key
    parts = tuple(FRESH[config.method])
    for key, value in objective.state_dict().items():
        assert not key.startswith(parts) or torch.equal(value, before[key]), key
    for text in (planned, said):
        named = set(text.partition("Fresh: ")[2].rstrip(".").split(", "))
        assert named == FRESH[config.method]


@pytest.mark.parametrize("name", NANO)
def test_another_network_is_refused_when_it_is_planned(name, photos, tmp_path):
    config = get_recipe(name).resolved()
    other = "vit-nano" if config.backbone != "vit-nano" else "swin-nano"
    path, _ = written(tmp_path, other, config.data.img_size)
    with pytest.raises(UserError, match=f"holds {other}, and this run trains {config.backbone}"):
        plan_initial(str(path), Planned(config, photos, tmp_path))
    bare = tmp_path / "bare.pth"
    torch.save(dict(get_spec(other).build(BuildOptions()).state_dict()), bare)
    with pytest.raises(UserError, match=rf"--init-from: .*does not fit {config.backbone}") as e:
        plan_initial(str(bare), Planned(config, photos, tmp_path))
    assert "ame the right backbone with --arch" in str(e.value)
    assert "arch=" not in str(e.value)


@pytest.mark.parametrize("name", NANO)
def test_missing_tensors_of_the_encoder_are_refused_when_it_is_planned(name, photos, tmp_path):
    config = get_recipe(name).resolved()
    _, state = written(tmp_path, config.backbone, config.data.img_size)
    lost = next(key for key in reversed(state) if key.endswith("weight") and "norm" not in key)
    del state[lost]
    path = tmp_path / "lacking.pth"
    torch.save({key.removeprefix("net."): value for key, value in state.items()}, path)
    lost = lost.removeprefix("net.")
    with pytest.raises(UserError, match=rf"lacks {lost}"):
        plan_initial(str(path), Planned(config, photos, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", NANO)
def test_two_steps_from_an_encoder_differ_from_two_fresh_ones(name, photos, tmp_path):
    config = small(name, 2)
    path, _ = written(tmp_path, config.backbone, config.data.img_size)
    checkpoint, _ = plan_initial(str(path), Planned(config.resolved(), photos, tmp_path))
    spec = get_spec(config.backbone)
    losses = []
    for folder, first in (("fresh", None), ("from", checkpoint)):
        monitor = Stop(after=99)
        out = tmp_path / folder
        job = PretrainJob(spec, config, photos, out, 5, tmp_path, name, num_workers=0)
        outcome = pretrain(replace(job, init_from=first), monitor)
        assert len(monitor.losses) == 2
        losses.append(monitor.losses[0])
        assert outcome.checkpoint.path is not None
    assert losses[0] != losses[1]


@pytest.mark.parametrize("content", ['{"lr": 1}', "[1]", "{bad"])
def test_a_foreign_record_next_to_the_weights_is_named(photos, tmp_path, content):
    config = get_recipe("mae-nano").resolved()
    path = tmp_path / "side.pth"
    torch.save(dict(get_spec(config.backbone).build(BuildOptions()).state_dict()), path)
    path.with_suffix(".json").write_text(content)
    with pytest.raises(UserError, match=r"^--init-from: .*side.json is not a valid"):
        plan_initial(str(path), Planned(config, photos, tmp_path))


def test_whole_numbers_are_refused_when_they_are_planned(photos, tmp_path):
    config = get_recipe("mae-nano").resolved()
    state = get_spec(config.backbone).build(BuildOptions()).state_dict()
    path = tmp_path / "whole.pth"
    torch.save({name: tensor.int() for name, tensor in state.items()}, path)
    with pytest.raises(UserError, match=r"holds int32 in \S+, where the network computes in float"):
        plan_initial(str(path), Planned(config, photos, tmp_path))


def official(config: PretrainConfig) -> Objective:
    return build_objective(get_method(config.method), get_spec(config.backbone), config, seed=3)


OFFICIAL = [name for name in NANO if not name.startswith("supervised")]


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_file_that_holds_no_number_is_not_loaded(name, photos, tmp_path):
    config = get_recipe(name).resolved()
    objective = official(config)
    first = next(parameter for parameter in objective.parameters() if parameter.ndim > 1)
    first.data.view(-1)[0] = float("nan")
    path = tmp_path / "official.pth"
    try:
        torch.save(objective.official_state(), path)
    except UserError:
        pytest.skip("the method has no official layout for this network")
    checkpoint, said = plan_initial(str(path), Planned(config, photos, tmp_path))
    assert "whole objective" in said
    spec = get_spec(config.backbone)
    with pytest.raises(PreflightError, match=r"holds NaN or infinity in \S+; use another file"):
        load_initial(official(config), config.method, spec, checkpoint, config.data.img_size)


def test_a_whole_objective_keeps_the_normalisation_of_its_images(photos, tmp_path):
    config = get_recipe("mae-nano").resolved()
    half = (0.5, 0.5, 0.5)
    path = tmp_path / "objective.safetensors"
    made_by = {"method": "mae", "backbone": config.backbone}
    save_objective(official(config), path, config, made_by, (half, half))
    checkpoint, _ = plan_initial(str(path), Planned(config, photos, tmp_path))
    assert (checkpoint.mean, checkpoint.std) == (half, half)
    save_objective(official(config), path, config, made_by)
    checkpoint, _ = plan_initial(str(path), Planned(config, photos, tmp_path))
    assert (checkpoint.mean, checkpoint.std) == (None, None)


def test_a_folder_without_weights_is_named(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = get_recipe("mae-nano").resolved()
    with pytest.raises(PreflightError, match=r"^--init-from: .* is a folder without weights"):
        plan_initial(".", Planned(config, photos, tmp_path))
