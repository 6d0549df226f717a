"""ACF: attention by hand, gradients by finite differences, one training step by a NumPy loop."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from src.artifacts.errors import UserError
from src.attacks.list_goals import list_goal
from src.datasets.interactions import Interactions
from src.extractors.extractor import Prediction
from src.recommenders.acf import ACF
from src.recommenders.audience import audience_of
from src.recommenders.buyers import Buyers, buyers_of
from src.recommenders.data import TrainingData
from src.recommenders.hyperparameters import NetworkHyperparameters
from src.recommenders.weights import Weights, fresh_moments
from tests.adam_steps import RATE, assert_first_step


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


def test_an_item_of_its_own_image_is_refused_in_one_line():
    of = data()
    with pytest.raises(UserError, match="ACF reads an image for the users who have its item"):
        audience_of(ACF.of(None, drawn(), of), of, np.array([1]), 2)


IDS, TARGET, K = np.array([0, 1]), 3, 2
"""User 1 has the target too, so the buyers are users 0 and 2 of item 0 and user 0 of item 1."""


def buyers(of: TrainingData) -> Buyers:
    return buyers_of(ACF.of(None, drawn(), of), of, IDS, K, TARGET)


def test_places_of_the_target_are_those_of_the_scores_of_a_loop():
    of = data()
    pairs = [(0, 0), (0, 2), (1, 0)]
    for seed in range(5):
        moved = 4 * np.random.default_rng(seed).standard_normal((2, 4), np.float32)
        wanted_scores, wanted_places = [], []
        for row, user in pairs:
            features = of.features.copy()
            features[IDS[row]] = moved[row]
            scores = scores_by_loops(drawn().tables, features / np.float64(of.scale))[user]
            known = of.interactions.train[of.interactions.train[:, 0] == user, 1]
            rivals = np.delete(scores, [*known, TARGET])
            wanted_scores.append(scores[TARGET])
            wanted_places.append(1 + np.sum(rivals > scores[TARGET]))
        found = buyers(of)
        np.testing.assert_allclose(found.scores(moved), wanted_scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found.places(moved), wanted_places)
        np.testing.assert_allclose(
            found.means(np.array([2.0, 4.0, 1.0])), [3, 1]
        )  # item 0 has two buyers


@pytest.mark.parametrize("objective", ["score", "rank", "demote-insa"])
def test_slopes_of_goals_for_buyers_are_finite_differences(objective):
    of = data()
    goal = list_goal(objective, buyers(of), torch.device("cpu")).to(torch.float64)
    goal = replace(goal, temperature=torch.ones(2, 1, dtype=torch.float64))
    features = torch.from_numpy(of.features[IDS]).double().requires_grad_()
    (slope,) = torch.autograd.grad(goal(Prediction(None, features)).sum(), features)
    assert slope.abs().max() > 1e-3
    for column in range(features.shape[1]):
        moved = torch.zeros_like(features)
        moved[:, column] = 1e-6
        values = [goal(Prediction(None, at)) for at in (features + moved, features - moved)]
        difference = (values[0] - values[1]).detach() / 2e-6
        np.testing.assert_allclose(slope[:, column], difference, rtol=1e-4, atol=1e-7)


def test_a_goal_for_buyers_counts_those_who_are_shown_the_target():
    of = data()
    goal, found = list_goal("rank", buyers(of), torch.device("cpu")), buyers(of)
    shown = set()
    for seed in range(40):
        moved = 9 * np.random.default_rng(seed).standard_normal((2, 4), np.float32)
        wanted = found.means(found.places(moved) <= K)
        prediction = Prediction(None, torch.from_numpy(moved))
        np.testing.assert_allclose(goal.exposure(prediction), wanted)
        only = goal[torch.tensor([1])]
        np.testing.assert_allclose(
            only.exposure(Prediction(None, prediction.features[1:])), wanted[1:]
        )
        shown |= set(wanted.tolist())
    assert len(shown) > 1


@pytest.mark.parametrize(
    ("ids", "target", "said"),
    [
        ([0, 3], 3, "one of the attacked items"),
        ([0], 5, "items 0 to 4"),
        ([2], 3, "item 2: no buyer of it lacks item 3"),
    ],
)
def test_targets_that_no_buyer_can_be_shown_are_refused(ids, target, said):
    of = data()
    with pytest.raises(UserError, match=said):
        buyers_of(ACF.of(None, drawn(), of), of, np.array(ids), K, target)


def test_as_many_buyers_as_asked_are_drawn_of_each_item():
    of = data()
    drawn_ones = buyers_of(ACF.of(None, drawn(), of), of, IDS, K, TARGET, at_most=1)
    np.testing.assert_array_equal(drawn_ones.row, [0, 1])


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

    trained = ACF.fit(of, 5, hyperparameters=hyperparameters, epochs=1, start=weights).weights
    doubles = {name: table.astype(np.float64) for name, table in weights.tables.items()}
    for name, table in weights.tables.items():
        assert_first_step(
            lambda changed, name=name: loss(doubles | {name: changed}),
            table,
            trained.tables[name],
            trained.accumulators[name],
        )


def test_different_learning_rates_are_refused():
    with pytest.raises(UserError, match="one learning rate"):
        small(learning_rates=(0.1, 0.2, 0.1))
