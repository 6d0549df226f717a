"""Delta ranking against the full ranking, and visual reliance against its definition."""

from dataclasses import replace

import numpy as np
import pytest

from src.artifacts.errors import UserError
from src.datasets.interactions import Interactions
from src.measures.reliance import PERMUTATIONS, visual_reliance
from src.recommenders.data import TrainingData
from src.recommenders.delta import Changed
from src.recommenders.factor_models import VBPR
from src.recommenders.ranking import top_k
from src.recommenders.weights import Weights, fresh_accumulators

SCORES = np.array([[3, 2, 1, 0], [0.5, 1.5, 2.5, 2], [1, 1, 0.2, 0.9]], np.float32)
"""Three users, four items."""


def by_hand(ids: list[int], k: int = 2) -> Changed:
    """Users are unit vectors, so that the rows of items are columns of scores."""
    interactions = Interactions(np.array([[1, 2]]), np.array([[0, 3]]), 3, 4)
    return Changed(np.eye(3, dtype=np.float32), SCORES.T.copy(), interactions, np.array(ids), k)


def drawn(seed: int, ids: list[int], k: int = 3, *, integer: bool = False) -> Changed:
    rng = np.random.default_rng(seed)
    has = rng.random((40, 15)) < 0.2
    has[:, 14] = False
    test = np.stack([np.arange(40), np.full(40, 14)], axis=1)
    users, items = rng.normal(size=(40, 4)), rng.normal(size=(15, 4))
    if integer:  # equal scores are common
        users, items = rng.integers(-1, 2, (40, 4)), rng.integers(-1, 2, (15, 4))
    interactions = Interactions(np.argwhere(has), test, 40, 15)
    return Changed(
        users.astype(np.float32), items.astype(np.float32), interactions, np.array(ids), k
    )


def full_lists(changed: Changed, rows: np.ndarray, ids: np.ndarray):
    items = changed.items.copy()
    items[ids] = rows
    return top_k(changed.users, items, changed.interactions, changed.k)


def test_an_item_alone_is_shown_to_the_users_whose_list_it_enters():
    changed = by_hand([3])
    best = changed.best()
    np.testing.assert_array_equal(changed.audience, [3])
    assert changed.users_shown(SCORES.T[[3]], best) == [1]
    tied = np.array([[0, 2, 1.0]], np.float32)
    assert changed.users_shown(tied, best) == [1], "equal scores go to the smaller id"
    above = np.array([[0, 2, 1.0001]], np.float32)
    assert changed.users_shown(above, best) == [2]


def test_items_that_change_together_compete_for_the_places():
    changed = by_hand([1, 3])
    rows = np.array([[2.5, 1.2, 1.0], [1.5, 2.2, 0.9]], np.float32)
    lists = changed.lists(rows, changed.others())
    np.testing.assert_array_equal(lists.items, [[0, 1], [3, 1], [0, 1]])
    np.testing.assert_array_equal(
        lists.scores, np.array([[3, 2.5], [2.2, 1.2], [1, 1]], np.float32)
    )
    assert np.isin(lists.items, changed.ids).sum(axis=1).mean() == pytest.approx(4 / 3)


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_full_ranking(seed, integer):
    changed = drawn(seed, [1, 5, 6, 13], integer=integer)
    rng = np.random.default_rng(seed + 100)
    rows = changed.items[changed.ids] + rng.integers(-1, 2, (4, 4)).astype(np.float32)
    lists = full_lists(changed, rows, changed.ids)
    delta = changed.lists(rows, changed.others())
    np.testing.assert_array_equal(delta.items, lists.items)
    np.testing.assert_allclose(delta.scores, lists.scores, rtol=1e-5, atol=1e-6)

    shown = changed.users_shown(rows, changed.best())
    for column, item in enumerate(changed.ids):
        alone = full_lists(changed, rows[column], np.array([item]))
        assert shown[column] == (alone.items == item).any(axis=1).sum()


def test_places_and_mean_scores_by_a_loop():
    changed = drawn(7, [0, 3, 9])
    rows = changed.items[changed.ids] + np.float32(0.5)
    sample = np.array([2, 3, 17, 39])
    places, means = changed.places(rows, sample), changed.mean_scores(rows)
    known = {tuple(pair) for pair in changed.interactions.train.tolist()}
    for column, item in enumerate(changed.ids):
        audience = [user for user in range(40) if (user, int(item)) not in known]
        assert means[column] == pytest.approx(
            np.mean(changed.users[audience] @ rows[column]), rel=1e-5
        )
        assert changed.audience[column] == len(audience)
        for row, user in enumerate(sample.tolist()):
            own = changed.users[user] @ rows[column]
            others = [i for i in range(15) if i != item and (user, i) not in known]
            place = 1 + sum(changed.users[user] @ changed.items[i] >= own for i in others)
            expected = place if user in audience else np.nan
            np.testing.assert_equal(places[row, column], expected)


def test_a_list_that_is_longer_than_the_catalogue_holds_everything():
    changed = by_hand([0, 3], k=9)
    assert changed.users_shown(SCORES.T[[0, 3]], changed.best()).tolist() == [3, 3]
    lists = changed.lists(SCORES.T[[0, 3]], changed.others())
    np.testing.assert_array_equal(lists.items[1, :4], [3, 1, 0, -1])


@pytest.mark.parametrize(
    ("ids", "k", "message"),
    [
        ([4], 2, "item 4 is not in the catalogue of 4"),
        ([1, 1], 2, "more than once"),
        ([1], 0, "at least one place"),
    ],
)
def test_items_that_cannot_change(ids, k, message):
    with pytest.raises(UserError, match=message):
        by_hand(ids, k)


def test_an_item_that_everybody_has():
    changed = by_hand([2])
    everybody = replace(changed.interactions, train=np.array([[0, 2], [1, 2], [2, 2]]))
    with pytest.raises(UserError, match="all users have item 2"):
        replace(changed, interactions=everybody)


def recommender(visual: float) -> tuple[VBPR, TrainingData]:
    """Half of the taste is latent; ``visual`` scales the half that is read from features."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 6)).astype(np.float32)
    users = rng.normal(size=(200, 4)).astype(np.float32)
    projection = visual * rng.normal(size=(6, 4)).astype(np.float32)
    items = rng.normal(size=(60, 4)).astype(np.float32)
    tables = {"P": users, "Q": items, "E": projection}
    scores = users @ (items + features @ projection).T
    test = np.stack([np.arange(200), scores.argmax(axis=1)], axis=1)
    train = np.stack([np.arange(200), scores.argmin(axis=1)], axis=1)
    interactions = Interactions(train, test, 200, 60)
    return VBPR("shared", Weights(tables, fresh_accumulators(tables), 1.0)), TrainingData(
        interactions, features
    )


def test_a_recommender_that_does_not_look_does_not_rely_on_images():
    blind = visual_reliance(*recommender(0.0), k=5)
    assert (blind.lost_hits, blind.deviation_ratio) == (0, 0)
    assert blind.hardly_looks
    sighted = visual_reliance(*recommender(2.0), k=5)
    assert sighted.lost_hits > 0.5 and not sighted.hardly_looks
    assert sighted.visual_auc > 0.8 and sighted.deviation_ratio > 1


def test_reliance_where_users_have_several_held_out_items():
    """Lost hits are those of HR@K, and the held-out items of a user are no negatives of each other."""
    tables = {
        "P": np.array([[2, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 2]], np.float32),
        "Q": np.linspace(-0.1, 0.1, 36, dtype=np.float32).reshape(6, 6),
        "E": np.eye(6, dtype=np.float32),
    }
    train, test = np.array([[0, 5], [1, 0]]), np.array([[0, 0], [0, 1], [1, 4], [1, 5]])
    features = np.eye(6, dtype=np.float32)
    data = TrainingData(Interactions(train, test, 2, 6), features)

    def hit_rate(features: np.ndarray) -> float:
        scores = tables["P"] @ (tables["Q"] + features).T
        scores[tuple(train.T)] = -np.inf
        first, second = np.argsort(-scores, axis=1)[:, :2]
        return np.mean([not {0, 1}.isdisjoint(first), not {4, 5}.isdisjoint(second)])

    rng = np.random.default_rng(0)
    left = np.mean([hit_rate(rng.permutation(features)) for _ in range(PERMUTATIONS)])
    found = visual_reliance(
        VBPR("shared", Weights(tables, fresh_accumulators(tables), 1.0)), data, k=2
    )
    assert hit_rate(features) == found.visual_auc == 1
    assert 0 < left < 1 and found.lost_hits == pytest.approx(1 - left)
