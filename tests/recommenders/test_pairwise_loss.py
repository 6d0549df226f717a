"""The closed-form gradient of the BPR loss against loops, TensorFlow, finite draws and itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from src.artifacts.errors import UserError
from src.artifacts.tables import read_pairs
from src.datasets.interactions import Interactions
from src.recommenders import pairwise_loss
from src.recommenders.pairwise_loss import ExpectedNegatives, FixedNegatives, SampledNegatives
from src.recommenders.sampling import TripleSampler
from tests.real_data import REAL_DATA

N_USERS, N_ITEMS, WIDTH = 9, 14, 5
MOVIELENS = REAL_DATA / "movielens-500"


def interactions_of(has: np.ndarray) -> Interactions:
    """Return the interactions of a (users, items) table of booleans."""
    return Interactions(np.argwhere(has), np.empty((0, 2), np.int64), *has.shape)


@pytest.fixture
def interactions() -> Interactions:
    """Interactions in which user 4 has none, and items 12 and 13 are cold."""
    has = np.random.default_rng(1).random((N_USERS, N_ITEMS)) < 0.35
    has[4] = has[:, 12:] = False
    has[np.arange(N_USERS) != 4, 0] = True
    return interactions_of(has)


@pytest.fixture
def model() -> tuple[np.ndarray, np.ndarray]:
    """Folded matrices whose scores are of order 1."""
    return model_of(N_USERS, N_ITEMS)


def model_of(n_users: int, n_items: int, seed: int = 0, scale: float = 0.8):
    rng = np.random.default_rng(seed)
    users = scale * rng.standard_normal((n_users, WIDTH), np.float32)
    return users, scale * rng.standard_normal((n_items, WIDTH), np.float32)


def looped(users, items, weighted_triples):
    """Compute the loss of (weight, user, positive, negative) one by one, in double precision."""
    users, items = users.astype(float), items.astype(float)
    of_users, of_items = np.zeros_like(users), np.zeros_like(items)
    for weight, u, i, j in weighted_triples:
        c = -weight * expit(users[u] @ (items[j] - items[i]))
        of_users[u] += c * (items[i] - items[j])
        of_items[i] += c * users[u]
        of_items[j] -= c * users[u]
    return of_users, of_items


def all_triples(interactions: Interactions, candidates: np.ndarray, users: np.ndarray):
    """Return every (weight, user, positive, negative) of the expectation."""
    has = np.zeros((interactions.n_users, interactions.n_items), bool)
    has[tuple(interactions.train.T)] = True
    for u, i in interactions.train:
        negatives = [j for j in candidates if not has[u, j]]
        yield from ((1 / len(negatives), u, i, j) for j in negatives if u in users)


def assert_same(gradients, expected, tolerance=1e-6):
    for ours, theirs in zip(gradients, expected, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=tolerance * max(1, np.abs(theirs).max()))


def test_fixed_negatives_equal_a_loop(model, interactions, monkeypatch):
    triples = TripleSampler.of(interactions).epoch(3, 0)
    triples = np.concatenate([triples, triples[:, :7]], axis=1)  # repeated ones count twice
    expected = looped(*model, [(1, *triple) for triple in triples.T])
    assert_same(FixedNegatives(triples).gradient(*model), expected)
    monkeypatch.setattr(pairwise_loss, "TRIPLES_AT_ONCE", 4)
    assert_same(FixedNegatives(triples).gradient(*model), expected)
    assert_same(FixedNegatives(triples[:, ::-1]).gradient(*model), expected)


def test_fixed_negatives_equal_the_tape(model, interactions):
    tf = pytest.importorskip("src.recommenders.quiet_tensorflow").tf
    triples = TripleSampler.of(interactions).epoch(3, 0)
    users, items = map(tf.constant, model)
    with tf.GradientTape() as tape:
        tape.watch((users, items))
        difference = tf.gather(items, triples[1]) - tf.gather(items, triples[2])
        margins = tf.reduce_sum(tf.gather(users, triples[0]) * difference, 1)
        loss = -tf.reduce_sum(tf.math.log_sigmoid(margins))
    expected = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, (users, items))]
    assert_same(FixedNegatives(triples).gradient(*model), expected)


def test_every_draw_is_a_fresh_epoch_of_the_sampler(model, interactions):
    sampler = TripleSampler.of(interactions)
    loss = SampledNegatives(sampler, seed=5)
    for draw in range(3):
        expected = FixedNegatives(sampler.epoch(5, draw)).gradient(*model)
        assert_same(loss.gradient(*model, draw), expected, 0)
    assert (loss.gradient(*model, 0)[1] != loss.gradient(*model, 1)[1]).any()
    assert (SampledNegatives(sampler, 6).gradient(*model)[1] != loss.gradient(*model)[1]).any()


@pytest.mark.parametrize("at_once", (1, 40, 2**22))
@pytest.mark.parametrize("candidates", (range(12), range(N_ITEMS), (13, 3, 5, 1, 8, 12, 10)))
def test_expectation_equals_a_double_loop(model, interactions, candidates, at_once, monkeypatch):
    monkeypatch.setattr(pairwise_loss, "MARGINS_AT_ONCE", at_once)
    candidates = np.array(candidates)
    expected = looped(*model, all_triples(interactions, candidates, np.arange(N_USERS)))
    assert_same(ExpectedNegatives(interactions, candidates).gradient(*model), expected)


@given(st.integers(0, 10_000), st.floats(0.05, 0.9), st.integers(1, 200), st.floats(0.01, 30))
def test_expectation_equals_a_double_loop_everywhere(seed, density, at_once, scale):
    rng = np.random.default_rng(seed)
    has = rng.random(rng.integers(2, 8, 2)) < density
    has[has.all(axis=1), 0] = False
    users, items = model_of(*has.shape, seed, scale)
    interactions, candidates = interactions_of(has), np.arange(has.shape[1])
    subset = np.flatnonzero(rng.random(len(has)) < 0.7)
    expected = looped(users, items, all_triples(interactions, candidates, subset))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairwise_loss, "MARGINS_AT_ONCE", at_once)
        loss = ExpectedNegatives(interactions, candidates).restricted_to(subset)
        # Where scores are in the hundreds, float32 has them only to about 1e-5.
        assert_same(loss.gradient(users, items), expected, 1e-6 * max(1, scale**2))


def test_expectation_is_the_average_of_draws(model, interactions):
    sampler = TripleSampler.of(interactions)
    sampled = SampledNegatives(sampler, seed=0)
    draws = [sampled.gradient(*model, draw) for draw in range(4000)]
    expected = ExpectedNegatives(interactions, sampler.candidate_items).gradient(*model)
    for of_draws, exact in zip(zip(*draws, strict=True), expected, strict=True):
        error = np.std(of_draws, axis=0) / np.sqrt(len(draws))
        assert (np.abs(np.mean(of_draws, axis=0) - exact) < 5 * error + 1e-5).all()


def test_restricted_losses_add_up_to_the_whole(model, interactions):
    sampler = TripleSampler.of(interactions)
    some, others = np.array([6, 0, 4]), np.array([1, 2, 3, 5, 7, 8])
    losses = (
        SampledNegatives(sampler, 2),
        FixedNegatives(sampler.epoch(2, 0)),
        ExpectedNegatives(interactions, sampler.candidate_items),
    )
    for loss in losses:
        of_some = loss.restricted_to(some).gradient(*model)
        of_others = loss.restricted_to(others).gradient(*model)
        assert_same([a + b for a, b in zip(of_some, of_others, strict=True)], loss.gradient(*model))
        assert not of_some[0][others].any() and of_some[0][[0, 6]].any()
        twice = loss.restricted_to(some).restricted_to(np.array([0, 1]))
        assert_same(twice.gradient(*model), loss.restricted_to(np.array([0])).gradient(*model))


def test_without_a_training_pair_there_is_no_gradient(model, interactions):
    sampler = TripleSampler.of(interactions)
    losses = (
        SampledNegatives(sampler, 2),
        FixedNegatives(sampler.epoch(2, 0)),
        ExpectedNegatives(interactions, sampler.candidate_items),
    )
    for loss in losses:
        of_users, of_items = loss.restricted_to(np.array([4])).gradient(*model)
        assert of_users.shape == model[0].shape and of_items.shape == model[1].shape
        assert not of_users.any() and not of_items.any()


@pytest.mark.filterwarnings("error")
def test_large_scores_do_not_overflow():
    """User 0 ranks its item far above all others, user 1 far below: c is exactly 0 and -1."""
    users = np.array([[1.0], [-1.0]], np.float32) * 1e4
    items = np.array([[1.0], [0.0], [-1.0]], np.float32)
    pairs = interactions_of(np.array([[True, False, False], [True, False, False]]))
    expected = ([[0], [-1.5]], [[1e4], [-0.5e4], [-0.5e4]])
    assert_same(ExpectedNegatives(pairs, np.arange(3)).gradient(users, items), expected)
    triples = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [1, 2, 1, 2]])
    halved = [g / 2 for g in FixedNegatives(triples).gradient(users, items)]
    assert_same(halved, expected)


def test_small_gradients_keep_their_precision():
    """Every item of a user is far above the others: the gradient is 1e-9, not rounded to 0."""
    users = np.array([[1.0]], np.float32)
    items = np.array([[20.0], [0.0], [0.5]], np.float32)
    pairs = interactions_of(np.array([[True, False, False]]))
    (of_user,), _ = ExpectedNegatives(pairs, np.arange(3)).gradient(users, items)
    expected = -(20 / (1 + np.exp(20)) + 19.5 / (1 + np.exp(19.5))) / 2
    assert of_user[0] == pytest.approx(expected, rel=1e-5)


def test_a_user_with_every_candidate_is_named():
    has = np.array([[True, False, False], [True, True, False]])
    with pytest.raises(UserError, match="user 1 has every candidate item"):
        ExpectedNegatives(interactions_of(has), np.array([0, 1]))
    ExpectedNegatives(interactions_of(has), np.arange(3))


@pytest.mark.skipif(not MOVIELENS.is_dir(), reason="needs the shared data")
def test_expectation_on_movielens_equals_a_loop_over_users():
    train = read_pairs(MOVIELENS / "trainingset.tsv")
    train = train[np.lexsort((train[:, 1], train[:, 0]))]
    interactions = Interactions(train, np.empty((0, 2), np.int64), 500, 3172)
    users, items = model_of(500, 3172, scale=0.5)
    of_users, of_items = np.zeros(users.shape), np.zeros(items.shape)
    scores = users.astype(float) @ items.T.astype(float)
    for u in range(500):
        own = train[interactions.first[u] : interactions.first[u + 1], 1]
        others = np.setdiff1d(np.arange(3172), own)
        c = -1 / (1 + np.exp(scores[u, own][:, None] - scores[u, others])) / len(others)
        of_users[u] = c.sum(1) @ items[own] - c.sum(0) @ items[others]
        of_items[own] += np.outer(c.sum(1), users[u])
        of_items[others] -= np.outer(c.sum(0), users[u])
    loss = ExpectedNegatives(interactions, np.arange(3172))
    assert_same(loss.gradient(users, items), (of_users, of_items), 2e-6)
