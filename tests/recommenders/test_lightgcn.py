"""LightGCN: layers by hand and by loops, one training step by finite differences."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.artifacts.tables import write_pairs
from src.datasets.interactions import Interactions
from src.recommenders.data import TrainingData
from src.recommenders.hyperparameters import GraphHyperparameters
from src.recommenders.lightgcn import LightGCN
from src.recommenders.weights import Weights, fresh_moments
from tests.adam_steps import RATE, assert_first_step

ROOT = Path(__file__).parents[2]
N_USERS, N_ITEMS = 3, 5
TRAIN = np.array([[0, 0], [0, 1], [1, 1], [1, 2], [1, 3], [2, 0]])


def data(train: np.ndarray = TRAIN, n_users: int = N_USERS, n_items: int = N_ITEMS) -> TrainingData:
    test = np.stack([np.arange(n_users), np.full(n_users, n_items - 1)], axis=1)
    return TrainingData(Interactions(train, test, n_users, n_items))


def small(**changes: object) -> GraphHyperparameters:
    values = {"factors": 3, "batch": 8, "layers": 2, "learning_rates": (RATE,) * 3}
    return GraphHyperparameters(None, **(values | changes))


def smoothed_by_loops(rows: np.ndarray, layers: int) -> np.ndarray:
    """Return the mean of the layers of P above Q, one edge after another."""
    degrees = np.zeros(N_USERS + N_ITEMS)
    for user, item in TRAIN:
        degrees[user] += 1
        degrees[N_USERS + item] += 1
    layer, total = rows.astype(np.float64), rows.astype(np.float64)
    for _ in range(layers):
        above = np.zeros_like(layer)
        for user, item in TRAIN:
            node = N_USERS + item
            share = 1 / np.sqrt(degrees[user] * degrees[node])
            above[user] += share * layer[node]
            above[node] += share * layer[user]
        layer, total = above, total + above
    return total / (layers + 1)


def test_layers_of_a_hand_case():
    """Two users share item 0, and user 1 has item 1 too: A has 2^-.5 at (0, 0), 1/2 and 2^-.5 at user 1.

    With P = 0 and one layer, a user's row is half the weighted sum of the items' rows.
    """
    of = data(np.array([[0, 0], [1, 0], [1, 1]]), 2, 3)
    tables = {
        "P": np.zeros((2, 1), np.float32),
        "Q": np.array([[4], [8], [3]], np.float32),
        "mix": np.full(2, 0.5, np.float32),
    }
    users, items = LightGCN.of(None, Weights(tables, fresh_moments(tables), 1.0), of).factors(None)
    np.testing.assert_allclose(users[:, 0], [4 / 8**0.5, (4 / 2 + 8 / 2**0.5) / 2], rtol=1e-6)
    np.testing.assert_allclose(items[:, 0], [2, 4, 1.5], rtol=1e-6)


@pytest.mark.parametrize("layers", [1, 3])
def test_factors_are_those_of_a_loop_over_edges(layers):
    weights = LightGCN.initial(data(), small(layers=layers), 0)
    users, items = LightGCN.of(None, weights, data()).factors(None)
    wanted = smoothed_by_loops(np.vstack([weights.tables["P"], weights.tables["Q"]]), layers)
    np.testing.assert_allclose(np.vstack([users, items]), wanted, rtol=1e-5, atol=1e-6)
    alone = np.setdiff1d(np.arange(N_ITEMS), TRAIN[:, 1])
    np.testing.assert_allclose(items[alone] * (layers + 1), weights.tables["Q"][alone], rtol=1e-5)


def test_one_step_is_that_of_adam_on_the_loss_of_a_loop():
    """Every entry moves against the finite difference of the loss, and the layers' weights stay."""
    of, penalties = data(), (0.3, 0.2, 0.0)
    weights = LightGCN.initial(of, small(), 2)
    triples = of.sampler.epoch(5, 1)

    def loss(rows: np.ndarray) -> float:
        smoothed, total = smoothed_by_loops(rows, 2), 0.0
        for user, preferred, other in triples.T:
            margin = smoothed[user] @ (smoothed[N_USERS + preferred] - smoothed[N_USERS + other])
            total += np.log1p(np.exp(-margin)) + penalties[0] / 2 * np.sum(rows[user] ** 2)
            for item in (preferred, other):
                total += penalties[1] / 2 * np.sum(rows[N_USERS + item] ** 2)
        return total

    trained = LightGCN.fit(
        of, 5, hyperparameters=small(penalties=penalties), epochs=1, start=weights
    ).weights
    before, after = (np.vstack([at.tables["P"], at.tables["Q"]]) for at in (weights, trained))
    moments = np.concatenate([trained.accumulators["P"], trained.accumulators["Q"]], axis=1)
    assert_first_step(loss, before, after, moments)
    assert (trained.tables["mix"] == weights.tables["mix"]).all()


@pytest.mark.slow
def test_one_command_trains_in_both_frameworks(tmp_path):
    """A process of its own, since the tests' own has loaded torch first."""
    layout = Layout("tiny", tmp_path)
    (layout.images).mkdir(parents=True)
    for item in range(N_ITEMS):
        (layout.images / f"{item}.jpg").write_bytes(b"")
    write_pairs(layout.training_set, TRAIN)
    write_pairs(layout.test_set, data().interactions.test)
    command = [sys.executable, ROOT / "rec_generator.py", "--dataset", "tiny", "--root", tmp_path]
    options = ["--model", "BPRMF", "LightGCN", "--epoch", "1", "--topk", "2", "--gpu", "-1"]
    subprocess.run([*command, *options], check=True, cwd=tmp_path, capture_output=True)
    found = {path.name for path in layout.recommendations_dir.glob("*.tsv")}
    assert found == {f"original_top2_ep1_{model}.tsv" for model in ("BPRMF", "LightGCN")}


def test_different_learning_rates_are_refused():
    with pytest.raises(UserError, match="one learning rate"):
        small(learning_rates=(0.1, 0.2, 0.1))
