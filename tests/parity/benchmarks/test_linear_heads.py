"""Many heads at once against heads one by one, written out as loops over float64 numbers."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from backbones.base.errors import StoppedError
from backbones.base.monitor import SilentMonitor
from benchmarks.labelled.logistic import fit
from benchmarks.labelled.scores import judge
from benchmarks.labelled.sets.subsets import others, take_per_class
from benchmarks.tasks.linear.heads import HeadGroup, HeadKey, HeadOptimizer
from benchmarks.tasks.linear.probe import Labelled, Probe, lr_factor, make_groups
from benchmarks.tasks.linear.recipes import (
    GridConfig,
    HeadConfig,
    LinearConfig,
    ProbeScheduleConfig,
    linear_mae,
    linear_mocov3,
)
from benchmarks.tasks.lowshot.penalty import choose
from benchmarks.tasks.lowshot.recipes import RegressionConfig

EPS = 1e-5


def drawn(count, width, num_classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=generator) + 0.5
    return rows, torch.randint(num_classes, (count,), generator=generator)


def normed(rows, batch_norm):
    """Return rows of a batch as lists of float64, each feature to mean 0 and variance 1."""
    rows = [[float(v) for v in row] for row in rows]
    if not batch_norm:
        return rows
    for d in range(len(rows[0])):
        column = [row[d] for row in rows]
        mean = sum(column) / len(column)
        var = sum((v - mean) ** 2 for v in column) / len(column)
        for row in rows:
            row[d] = (row[d] - mean) / math.sqrt(var + EPS)
    return rows


def slopes_by_hand(weights, biases, rows, labels):
    """Return loss and gradients of one head, from the formulas of softmax and cross-entropy."""
    classes, width = len(weights), len(weights[0])
    loss = 0.0
    dw = [[0.0] * width for _ in range(classes)]
    db = [0.0] * classes
    for row, label in zip(rows, labels, strict=True):
        logits = [
            biases[c] + sum(weights[c][d] * row[d] for d in range(width)) for c in range(classes)
        ]
        total = sum(math.exp(v) for v in logits)
        for c in range(classes):
            p = math.exp(logits[c]) / total
            slope = (p - (c == label)) / len(rows)
            loss -= math.log(p) / len(rows) if c == label else 0.0
            db[c] += slope
            for d in range(width):
                dw[c][d] += slope * row[d]
    return loss, dw, db


def length(matrix):
    return math.sqrt(sum(v * v for row in matrix for v in row))


def train_by_hand(first, batches, rates, config, batch_norm):
    """Return weights and biases of one head after a step a batch."""
    weights = [[float(v) for v in row] for row in first]
    classes, width = len(weights), len(weights[0])
    biases = [0.0] * classes
    mw = [[0.0] * width for _ in range(classes)]
    mb = [0.0] * classes
    for (rows, labels), lr in zip(batches, rates, strict=True):
        _, dw, db = slopes_by_hand(weights, biases, normed(rows, batch_norm), labels.tolist())
        decay, trust = config.weight_decay, 1.0
        dw = [[dw[c][d] + decay * weights[c][d] for d in range(width)] for c in range(classes)]
        if config.optimizer == "lars":
            # As facebookresearch/mae: a bias has no decay and no trust ratio.
            trust = 0.001 * length(weights) / length(dw)
            decay = 0.0
        for c in range(classes):
            mb[c] = config.momentum * mb[c] + db[c] + decay * biases[c]
            biases[c] -= lr * mb[c]
            for d in range(width):
                mw[c][d] = config.momentum * mw[c][d] + trust * dw[c][d]
                weights[c][d] -= lr * mw[c][d]
    return weights, biases


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(
    ("optimizer", "decay"), [("sgd", 0.0), ("sgd", 0.1), ("lars", 0.0), ("lars", 0.1)]
)
def test_a_grid_of_heads_is_heads_one_by_one(norm, optimizer, decay):
    config = HeadConfig(optimizer=optimizer, weight_decay=decay, init_std=0.3, norm_eps=EPS)
    torch.manual_seed(0)
    keys = [HeadKey("pooled", norm, lr) for lr in (0.02, 0.3, 2.0)]
    group = HeadGroup(keys, 3, 4, config)
    first = group.weights[0].clone()
    stepper = HeadOptimizer([group], config, batch_size=128)
    batches = [drawn(6, 4, 3, seed) for seed in range(4)]
    for rows, labels in batches:
        before = [slopes_by_hand(w.tolist(), b.tolist(), normed(rows, norm == "batch"),
                                 labels.tolist()) for w, b in
                  zip(group.weights.double(), group.biases.double(), strict=True)]  # fmt: skip
        losses, weights, biases = group.gradients(rows, labels)
        np.testing.assert_allclose(losses, [b[0] for b in before], rtol=1e-5)
        np.testing.assert_allclose(weights, [b[1] for b in before], atol=1e-6)
        np.testing.assert_allclose(biases, [b[2] for b in before], atol=1e-6)
        stepper.step([(weights, biases)], factor=0.5)
    for number, key in enumerate(keys):
        rates = [0.5 * key.base_lr * 128 / 256] * len(batches)
        weights, biases = train_by_hand(first, batches, rates, config, norm == "batch")
        np.testing.assert_allclose(group.weights[number], weights, rtol=2e-4, atol=1e-6)
        np.testing.assert_allclose(group.biases[number], biases, rtol=2e-4, atol=1e-6)


def test_a_batch_norm_counts_as_torch_s_module():
    config = HeadConfig(norm_eps=EPS)
    group = HeadGroup([HeadKey("cls", "batch", 0.1)], 3, 4, config)
    module = torch.nn.BatchNorm1d(4, affine=False, eps=EPS)
    for seed in range(3):
        rows, labels = drawn(8, 4, 3, seed)
        group.gradients(rows, labels)
        module(rows)
    torch.testing.assert_close(group.mean, module.running_mean)
    torch.testing.assert_close(group.var, module.running_var)
    rows, _ = drawn(5, 4, 3, seed=9)
    expected = module.eval()(rows) @ group.weights[0].T + group.biases[0]
    torch.testing.assert_close(group.logits(rows)[:, 0], expected)


def test_heads_are_right_where_their_first_best_class_is_the_true_one():
    config = HeadConfig()
    group = HeadGroup([HeadKey("cls", "none", lr) for lr in (1.0, 2.0, 3.0)], 3, 2, config)
    group.weights.zero_()
    group.weights[0, 2, 0] = group.weights[0, 1, 1] = 1.0
    group.weights[2].fill_(math.nan)
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    labels = torch.tensor([2, 2, 1, 0])
    # The first head: right, wrong, right of two equals the lower, likewise; the second: all equal.
    assert group.right(rows, labels).tolist() == [3, 1, 0]
    verdict = judge(group.logits(rows)[:, 0], labels)
    assert int((verdict.rank == 0).sum()) == 3


def test_rates_follow_the_papers():
    mae = linear_mae()
    assert mae.schedule.batch_size / 256 * mae.grid.base_lrs[0] == pytest.approx(6.4)
    assert lr_factor(mae.schedule, 2.5) == 0.25
    assert lr_factor(mae.schedule, 50.0) == pytest.approx(0.5)
    moco = linear_mocov3()
    assert moco.schedule.batch_size / 256 * moco.grid.base_lrs[0] == pytest.approx(12.0)
    assert lr_factor(moco.schedule, 30.9) == pytest.approx(0.5 * (1 + math.cos(math.pi / 3)))
    assert lr_factor(ProbeScheduleConfig(10, 8, 10.0, "step"), 5.0) == 0.5


CONFIG = LinearConfig(
    grid=GridConfig(("a", "b"), ("none", "batch"), (0.1, 3.0), 0.2),
    schedule=ProbeScheduleConfig(epochs=5, batch_size=16),
)


def probe(folder, monitor):
    rows, labels = drawn(60, 6, 4)
    rows[torch.arange(60), labels] += 3.0
    held, truth = drawn(20, 6, 4, seed=1)
    kinds = {"a": 6, "b": 3}
    data = Labelled(lambda kind, at: rows[at][:, : kinds[kind]], labels)
    holdout = Labelled(lambda kind, at: held[at][:, : kinds[kind]], truth)
    runner = Probe(make_groups(kinds, CONFIG, 4, 0), CONFIG, torch.device("cpu"), 0, monitor)
    trained = runner.train(lambda epoch: data, holdout, folder, {"seed": "0"})
    return runner, trained, holdout


class StopAfter(SilentMonitor):
    def __init__(self, calls):
        self.calls = calls

    def should_stop(self):
        self.calls -= 1
        return self.calls == 0


def test_a_probe_that_stopped_ends_in_the_same_heads(tmp_path):
    whole, trained, holdout = probe(tmp_path / "whole", SilentMonitor())
    for calls in (2, 2):
        with pytest.raises(StoppedError):
            probe(tmp_path / "pieces", StopAfter(calls))
    pieces, again, _ = probe(tmp_path / "pieces", SilentMonitor())
    assert again.curves == trained.curves
    assert again.holdout == trained.holdout
    for one, other in zip(trained.groups, again.groups, strict=True):
        assert torch.equal(one.weights, other.weights)
    assert whole.winner() == pieces.winner()
    best = whole.winner()
    right = (whole.verdict(best, holdout).rank == 0).float().mean()
    assert 100 * float(right) == pytest.approx(trained.holdout[best])
    assert trained.curves["holdout_best"][-1] == trained.holdout[best]


def test_parts_are_shares_of_every_class_and_depend_on_the_seed_alone():
    labels = np.repeat([0, 1, 2], [100, 30, 4])
    taken = take_per_class(labels, 0.1, seed=3)
    assert np.bincount(labels[taken]).tolist() == [10, 3, 1]
    assert np.array_equal(taken, take_per_class(labels, 0.1, seed=3))
    assert not np.array_equal(taken, take_per_class(labels, 0.1, seed=4))
    left = others(len(labels), taken)
    assert sorted([*taken, *left]) == list(range(len(labels)))


def test_the_regression_is_scikit_learn_s():
    rows, labels = drawn(40, 5, 3)
    rows = rows.double()
    for l2 in (0.01, 1.0):
        found = fit(rows, labels, 3, l2, 500)
        theirs = LogisticRegression(C=1 / (l2 * len(rows)), tol=1e-10, max_iter=5000)
        theirs.fit(rows.numpy(), labels.numpy())
        np.testing.assert_allclose(found.weights, theirs.coef_, atol=1e-4)
        # Biases are free up to a constant.
        ours = found.biases - found.biases.mean()
        np.testing.assert_allclose(ours, theirs.intercept_ - theirs.intercept_.mean(), atol=1e-4)


def test_the_penalty_is_chosen_on_labelled_images_alone():
    rows, labels = drawn(60, 40, 3)
    config = RegressionConfig()
    choice = choose(rows.double(), labels, 3, config, seed=0)
    assert choice.folds == 3
    assert choice.top1[choice.l2] == max(choice.top1.values())
    single = choose(rows[:3].double(), torch.arange(3), 3, config, seed=0)
    assert (single.l2, single.folds) == (config.l2_alone, 0)
