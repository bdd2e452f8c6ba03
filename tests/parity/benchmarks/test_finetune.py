"""Fine-tuning against its formulas: rates by layer, loss and gradients, what is trained."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from backbones.base.errors import UserError
from backbones.catalog import get_spec
from backbones.checkpoint import Checkpoint
from backbones.spec import BuildOptions
from backbones.training.objective import Moment
from backbones.training.optim import parameter_groups
from backbones.vit.config import ViTConfig
from backbones.vit.network import VisionTransformer
from backbones.weights.files import save_weights
from benchmarks.data.roots import DataRoot
from benchmarks.labelled.tuning.config import TuneConfig
from benchmarks.labelled.tuning.objective import FinetuneObjective, trained_names
from benchmarks.labelled.tuning.training import make_objective
from benchmarks.task import TaskInputs
from benchmarks.tasks.finetune.recipes import FINETUNE_RECIPES, finetune_vit_b16, recipe_for
from pretrain.recipes.supervised import SupervisedConfig

TOY = ViTConfig(16, 2, 2, patch_size=4, positions="learned")
MODEL = SupervisedConfig(label_smoothing=0.1)
BLOCK = (
    "norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight",
    "attn.proj.bias", "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias",
    "mlp.fc2.weight", "mlp.fc2.bias",
)  # fmt: skip
RECIPES = list(FINETUNE_RECIPES.items())
STEM = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}


def toy(**tune):
    backbone = VisionTransformer(TOY, BuildOptions(img_size=16))
    return FinetuneObjective(backbone, 5, MODEL, TuneConfig(**tune))


def meta(name):
    with torch.device("meta"):
        return get_spec(name).build(BuildOptions())


def test_rates_of_vit_b_by_layer():
    """MAE's scales: 0.65 ** 13 for what is embedded, 0.65 for the last block, 1 behind it."""
    factors = meta("vit-b16").lr_factors(0.65)
    expected = dict.fromkeys(STEM, 0.65**13)
    for block in range(12):
        expected |= {f"blocks.{block}.{name}": 0.65 ** (12 - block) for name in BLOCK}
    expected |= {"norm.weight": 1.0, "norm.bias": 1.0}
    assert factors == pytest.approx(expected)
    assert factors["pos_embed"] == pytest.approx(0.0037, abs=5e-5)


def test_rates_of_swin_t_by_layer():
    """Twelve blocks; a patch merging has the rate of the block in front of it."""
    factors = meta("swin-t").lr_factors(0.8)
    seen = 0
    expected = {}
    for stage, depth in enumerate((2, 2, 6, 2)):
        if stage:
            for name in ("norm.weight", "norm.bias", "reduction.weight"):
                expected[f"net.layers.{stage}.downsample.{name}"] = 0.8 ** (13 - seen)
        for block in range(depth):
            seen += 1
            for name in (*BLOCK, "attn.relative_position_bias_table"):
                expected[f"net.layers.{stage}.blocks.{block}.{name}"] = 0.8 ** (13 - seen)
    for name in ("proj.weight", "proj.bias", "norm.weight", "norm.bias"):
        expected[f"net.patch_embed.{name}"] = 0.8**13
    expected |= {"net.norm.weight": 1.0, "net.norm.bias": 1.0}
    assert factors == pytest.approx(expected)


def test_optimizer_groups_have_these_rates_and_spare_what_mae_spares():
    objective = toy(layer_decay=0.5)
    config = finetune_vit_b16().optim
    found = {
        name: (group.lr_factor, group.decayed)
        for group in parameter_groups(objective, config)
        for name in group.names
    }
    assert found["backbone.pos_embed"] == (0.125, False)
    assert found["backbone.cls_token"] == (0.125, False)
    assert found["backbone.patch_embed.proj.weight"] == (0.125, True)
    assert found["backbone.blocks.0.mlp.fc1.weight"] == (0.25, True)
    assert found["backbone.blocks.1.norm1.weight"] == (0.5, False)
    assert found["fc_norm.weight"] == (1.0, False)
    assert found["head.weight"] == (1.0, True)
    assert not any(name.startswith("backbone.norm.") for name in found)


def test_loss_and_gradients_of_mean_patches_behind_a_fresh_norm(reference, parity):
    torch.manual_seed(0)
    objective = parity.randomised(toy())
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, 16, 16, generator=generator, dtype=torch.float64)
    batch = {
        "image": image,
        "share": torch.tensor([0.7, 1.0], dtype=torch.float64),
        "box": torch.tensor([[0, 0, 0, 0], [0, 0, 8, 4]]),
        "label": torch.tensor([3, 1]),
    }

    def loss(w):
        first = 0.7 * image[0] + (1 - 0.7) * image[1]
        second = image[1].clone()
        second[:, 0:8, 0:4] = image[0][:, 0:8, 0:4]
        total = 0
        for seen, own, label, other in ((first, 0.7, 3, 1), (second, 1 - 32 / 256, 1, 3)):
            tokens = [w["backbone.cls_token"][0, 0] + w["backbone.pos_embed"][0, 0]]
            for place in range(16):
                stem = "backbone.patch_embed.proj"
                embedded = reference.project(seen, *divmod(place, 4), w, stem)
                tokens.append(embedded + w["backbone.pos_embed"][0, 1 + place])
            x = reference.blocks(torch.stack(tokens), w, "backbone.blocks", 2, 2)
            mean = sum(x[i] for i in range(1, 17)) / 16
            logits = reference.linear(reference.norm(mean[None], w, "fc_norm"), w, "head")[0]
            wanted = torch.full((5,), 0.1 / 5, dtype=torch.float64)
            wanted[label] += 0.9 * own
            wanted[other] += 0.9 * (1 - own)
            total = total - (wanted * (logits - torch.log(torch.exp(logits).sum()))).sum() / 2
        return total

    parity.compare(objective, batch, loss)


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        (0, set()),
        (0.5, {f"blocks.1.{name}" for name in BLOCK[6:]}),
        (1, {f"blocks.1.{name}" for name in BLOCK}),
        (2, {f"blocks.{i}.{name}" for i in (0, 1) for name in BLOCK} | STEM),
        (-1, {f"blocks.{i}.{name}" for i in (0, 1) for name in BLOCK} | STEM),
    ],
)
def test_exactly_the_named_blocks_are_trained(blocks, expected):
    behind = {"norm.weight", "norm.bias"}
    assert trained_names(toy().backbone, blocks) == expected | behind
    objective = toy(blocks=blocks)
    trained = {name for name, p in objective.named_parameters() if p.requires_grad}
    head = {"head.weight", "head.bias", "fc_norm.weight", "fc_norm.bias"}
    assert trained == {f"backbone.{name}" for name in expected} | head
    batch = {
        "image": torch.randn(2, 3, 16, 16),
        "share": torch.ones(2),
        "box": torch.zeros(2, 4, dtype=torch.int64),
        "label": torch.tensor([0, 1]),
    }
    sum(objective(batch).values()).backward()
    with_gradient = {name for name, p in objective.named_parameters() if p.grad is not None}
    assert with_gradient == trained


def test_half_a_block_of_swin_and_blocks_that_are_not_there():
    swin = meta("swin-nano")
    half = {f"net.layers.3.blocks.0.{name}" for name in BLOCK[6:]}
    assert trained_names(swin, 0.5) == half | {"net.norm.weight", "net.norm.bias"}
    assert trained_names(swin, 5) == frozenset(name for name, _ in swin.named_parameters())
    with pytest.raises(UserError, match=r"6 blocks are to be trained, and this backbone has 5"):
        trained_names(swin, 6)
    with pytest.raises(UserError, match="no MLP"):
        trained_names(meta("resnet-nano"), 0.5)


def test_frozen_batch_norms_keep_their_statistics():
    backbone = get_spec("resnet-nano").build(BuildOptions(img_size=32))
    objective = FinetuneObjective(backbone, 5, MODEL, TuneConfig(blocks=1)).train()
    before = {k: v.clone() for k, v in objective.state_dict().items() if "running" in k}
    objective.classify(torch.randn(2, 3, 32, 32))
    changed = {k for k, v in before.items() if not torch.equal(v, objective.state_dict()[k])}
    assert changed == {k for k in before if "layer4" in k}


def test_the_average_follows_and_is_what_is_tested():
    torch.manual_seed(0)
    objective = toy(ema_momentum=0.9).double()
    average = objective.head.weight.detach().clone()
    for _ in range(3):
        with torch.no_grad():
            for parameter in objective.parameters():
                if parameter.requires_grad:
                    parameter += torch.randn_like(parameter)
        objective.after_update(Moment(0, 3, 0.0))
        average = 0.9 * average + 0.1 * objective.head.weight.detach()
    torch.testing.assert_close(objective.averaged["head"].weight, average)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    predicted = objective.eval().predict(images)
    assert not torch.allclose(predicted, objective.classify(images))
    for name in ("backbone", "fc_norm", "head"):
        getattr(objective, name).load_state_dict(objective.averaged[name].state_dict())
    torch.testing.assert_close(predicted, objective.classify(images))


def test_a_position_table_is_resized_for_good():
    backbone = VisionTransformer(TOY, BuildOptions(img_size=16)).eval()
    images = torch.randn(1, 3, 28, 28)
    before = backbone(images).pooled
    old = backbone.pos_embed.detach()
    assert backbone.resize_table(28)
    square = old[:, 1:].reshape(1, 4, 4, 16).permute(0, 3, 1, 2)
    wanted = F.interpolate(square, size=(7, 7), mode="bicubic", align_corners=False)
    torch.testing.assert_close(backbone.pos_embed[:, 1:], wanted.flatten(2).transpose(1, 2))
    torch.testing.assert_close(backbone.pos_embed[:, :1], old[:, :1])
    assert isinstance(backbone.pos_embed, torch.nn.Parameter)
    torch.testing.assert_close(backbone(images).pooled, before)
    assert not backbone.resize_table(28)


def test_recipes_have_the_numbers_of_their_sources():
    rates = {name: make().optim.scaled(make().schedule.batch_size) for name, make in RECIPES}
    assert rates["finetune-vit-b16"] == pytest.approx(2e-3)
    assert rates["finetune-vit-l16"] == rates["finetune-vit-h14"] == pytest.approx(4e-3)
    assert rates["finetune-swin-b"] == pytest.approx(5e-3)
    for name, make in RECIPES:
        config = make().resolved()
        assert replace(config).resolved() == config
        above = config.data.img_size > 224
        assert (config.data.resize_to == config.data.img_size) == above, name
    names = [recipe_for("plain", depth) for depth in (12, 24, 32)]
    assert names == ["finetune-vit-b16", "finetune-vit-l16", "finetune-vit-h14"]
    assert recipe_for("hierarchical", 12) == "finetune-swin-b"


def test_nothing_is_resized_where_there_are_no_absolute_positions():
    config = replace(TOY, positions="none", irpe=True)
    assert not VisionTransformer(config, BuildOptions(img_size=16)).resize_table(28)


@pytest.mark.parametrize(
    ("name", "table", "rows"),
    [
        ("vit-ti16", "pos_embed", 1 + 3 * 3),
        ("swin-nano", "net.layers.3.blocks.0.attn.relative_position_bias_table", 5 * 5),
    ],
)
def test_weights_of_another_size_are_tuned_with_tables_of_this_one(tmp_path, name, table, rows):
    """48 pixels make 3 x 3 patches of 16; 96 pixels a last window of 3 x 3 in Swin."""
    spec, large = get_spec(name), 48 if name == "vit-ti16" else 96
    made = spec.build(BuildOptions(img_size=32 if name == "vit-ti16" else 64))
    record = Checkpoint(backbone=name, path=None, sha256="")
    checkpoint = save_weights(made, tmp_path / "weights.safetensors", record)
    config = finetune_vit_b16()
    config = replace(config, data=replace(config.data, img_size=large, resize_to=large))
    inputs = TaskInputs(
        backbone=spec,
        checkpoint=checkpoint,
        config=config,
        data=DataRoot("imagenet", "none", tmp_path, "test"),
        out_dir=tmp_path,
        cache=tmp_path,
        seed=0,
    )
    objective, coverage = make_objective(inputs, config, 5)
    assert coverage.loaded == coverage.total
    parameter = dict(objective.backbone.named_parameters())[table]
    assert parameter.requires_grad
    assert rows in parameter.shape
    assert rows not in dict(made.named_parameters())[table].shape
    old = made.state_dict()
    kept = {k: v for k, v in objective.backbone.state_dict().items() if v.shape == old[k].shape}
    assert all(torch.equal(value, old[key]) for key, value in kept.items())
