"""ACF: attention by hand, gradients by finite differences, one training step by a NumPy loop."""

import numpy as np
import pytest

from src.artifacts.errors import UserError
from src.datasets.interactions import Interactions
from src.recommenders.acf import ACF
from src.recommenders.audience import audience_of
from src.recommenders.data import TrainingData
from src.recommenders.hyperparameters import NetworkHyperparameters
from src.recommenders.weights import Weights, fresh_moments

RATE, BETAS, EPSILON = 0.01, (0.9, 0.999), 1e-7


def interactions() -> Interactions:
    train = np.array([[0, 0], [0, 1], [1, 1], [1, 2], [1, 3], [2, 0]])
    test = np.array([[0, 4], [1, 4], [2, 4]])
    return Interactions(train, test, 3, 5)


def data(seed: int = 0) -> TrainingData:
    rng = np.random.default_rng(seed)
    return TrainingData(interactions(), rng.random((5, 4), dtype=np.float32))


def small(**changes: object) -> NetworkHyperparameters:
    values = {"factors": 3, "batch": 8, "hidden": 2, "learning_rates": (RATE,) * 3}
    return NetworkHyperparameters(None, **(values | changes))


def drawn(seed: int = 0) -> Weights:
    """Return weights whose attention is far from uniform."""
    rng = np.random.default_rng(seed)
    shapes = dict(zip(ACF.tables, ACF.shapes(data(), small()), strict=True))
    tables = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return Weights(tables, fresh_moments(tables), data().scale)


def scores_by_loops(tables: dict[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """Score every item for every user, one item of a user's list after another."""
    t = {name: table.astype(np.float64) for name, table in tables.items()}
    pairs = interactions().train
    scores = np.zeros((3, 5))
    for user in range(3):
        items = [item for of, item in pairs if of == user]
        logits = []
        for item in items:
            hidden = t["P"][user] @ t["A_user"] + t["Q"][item] @ t["A_item"]
            hidden = hidden + t["Y"][item] @ t["A_own"] + features[item] @ t["A_features"]
            logits.append(np.maximum(hidden + t["A_bias"], 0) @ t["A_out"])
        shares = np.exp(logits) / np.sum(np.exp(logits))
        row = t["P"][user] + sum(s * t["Y"][i] for s, i in zip(shares, items, strict=True))
        scores[user] = t["Q"] @ row
    return scores


def test_attention_of_a_hand_case():
    """Logits of user 0 are ln 3 and 0 by the first feature, so that weights are 3/4 and 1/4."""
    shapes = dict(zip(ACF.tables, ACF.shapes(data(), small()), strict=True))
    tables = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    tables["A_features"][0, 0], tables["A_out"][0] = 1, 1
    tables["Y"][0], tables["Y"][1] = (8, 0, 0), (0, 8, 0)
    features = np.zeros((5, 4), np.float32)
    features[0, 0] = np.log(3)
    recommender = ACF.of(None, Weights(tables, fresh_moments(tables), 1.0), data())
    users, _ = recommender.factors(features)
    np.testing.assert_allclose(users[0], [6, 2, 0], rtol=1e-6)
    np.testing.assert_allclose(users[2], [8, 0, 0], rtol=1e-6)


def test_scores_are_those_of_a_loop_over_every_list():
    weights, of = drawn(), data()
    users, items = ACF.of(None, weights, of).factors(of.features)
    wanted = scores_by_loops(weights.tables, of.features / np.float64(of.scale))
    np.testing.assert_allclose(users @ items.T, wanted, rtol=1e-4, atol=1e-5)


def test_an_image_moves_the_lists_of_those_who_have_its_item_and_of_nobody_else():
    weights, of = drawn(), data()
    recommender = ACF.of(None, weights, of)
    moved = of.features.copy()
    moved[1] += 0.5
    before, after = (recommender.factors(features)[0] for features in (of.features, moved))
    np.testing.assert_array_equal(np.abs(after - before).max(axis=1) > 1e-4, [True, True, False])
    directions = recommender.directions(of.features, 1)
    assert np.abs(directions[:2]).max() > 1e-4 and not directions[2].any()


def test_attacks_on_lists_are_refused_in_one_line():
    of = data()
    with pytest.raises(UserError, match="ACF reads an image for the users who have its item"):
        audience_of(ACF.of(None, drawn(), of), of, np.array([1]), 2)


@pytest.mark.parametrize("fixed", [False, True])
def test_one_step_is_that_of_adam_on_the_loss_of_a_loop(fixed):
    """Every entry moves against the finite difference of the loss, by Adam's first step."""
    of, weights = data(), drawn()
    penalties = (0.3, 0.2, 0.1)
    hyperparameters = small(penalties=penalties, as_published=fixed)
    triples = of.sampler.epoch(5, 1)
    features = of.features / np.float64(weights.scale)
    clean = scores_by_loops(weights.tables, features)
    # With users' rows as constants, only the items' rows of a score change.
    rows = np.linalg.lstsq(weights.tables["Q"].astype(np.float64), clean.T, rcond=None)[0].T

    def loss(tables: dict[str, np.ndarray]) -> float:
        scores = rows @ tables["Q"].T if fixed else scores_by_loops(tables, features)
        total = 0.0
        for user, preferred, other in triples.T:
            total += np.log1p(np.exp(scores[user, other] - scores[user, preferred]))
            total += penalties[0] / 2 * np.sum(tables["P"][user] ** 2)
            for item in (preferred, other):
                squares = np.sum(tables["Q"][item] ** 2) + np.sum(tables["Y"][item] ** 2)
                total += penalties[1] / 2 * squares
        attention = [table for name, table in tables.items() if name.startswith("A_")]
        return total + penalties[2] / 2 * sum(np.sum(table**2) for table in attention)

    trained = ACF.fit(of, 5, hyperparameters=hyperparameters, epochs=1, start=weights)
    for name, table in weights.tables.items():
        for entry in np.ndindex(table.shape):
            values = []
            for step in (1e-5, -1e-5):
                tables = {of: t.astype(np.float64) for of, t in weights.tables.items()}
                tables[name][entry] += step
                values.append(loss(tables))
            gradient = (values[0] - values[1]) / 2e-5
            mean, of_squares = trained.weights.accumulators[name][(slice(None), *entry)]
            assert np.isclose(mean, (1 - BETAS[0]) * gradient, rtol=2e-3, atol=1e-5), (name, entry)
            assert np.isclose(of_squares, (1 - BETAS[1]) * gradient**2, rtol=4e-3, atol=1e-8)
            step = RATE * gradient / (abs(gradient) + EPSILON) if abs(gradient) > 1e-4 else 0.0
            moved = trained.weights.tables[name][entry] - table[entry]
            assert abs(gradient) <= 1e-4 or np.isclose(moved, -step, rtol=1e-2)


def test_a_continued_training_ends_at_the_same_bytes():
    of, options = data(), {"hyperparameters": small(batch=4)}
    half = ACF.fit(of, 1, epochs=2, **options)
    ends = (
        ACF.fit(of, 1, epochs=4, **options),
        ACF.fit(of, 1, epochs=4, start=half.weights, **options),
    )
    for name in ACF.tables:
        one, other = (end.weights.tables[name] for end in ends)
        assert one.tobytes() == other.tobytes()


def test_different_learning_rates_are_refused():
    with pytest.raises(UserError, match="one learning rate"):
        small(learning_rates=(0.1, 0.2, 0.1))
