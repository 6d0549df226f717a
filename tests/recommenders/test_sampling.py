"""Negatives are exactly uniform over the candidates of a user."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from src.artifacts.errors import UserError
from src.datasets.interactions import Interactions
from src.recommenders.sampling import TripleSampler

NO_TEST = np.empty((0, 2), np.int64)


def interactions_of(has: np.ndarray) -> Interactions:
    """Return the interactions of a (users, items) table of booleans."""
    return Interactions(np.argwhere(has), NO_TEST, *has.shape)


@st.composite
def tables(draw) -> np.ndarray:
    """Draw (users, items) booleans in which every user can be trained on."""
    n_users, n_items = draw(st.integers(1, 8)), draw(st.integers(2, 12))
    seed, density = draw(st.integers(0, 10_000)), draw(st.floats(0.05, 0.9))
    has = np.random.default_rng(seed).random((n_users, n_items)) < density
    has[0, 0] = True
    warm = has.any(axis=0)
    has[has.sum(axis=1) == warm.sum()] = False
    if not has.any():
        has = np.eye(2, n_items, dtype=bool)
    return has


@given(tables(), st.integers(0, 3))
def test_epoch_holds_each_positive_once_and_no_positive_or_cold_negative(has, epoch):
    warm = has.any(axis=0)
    if (has[:, warm].all(axis=1) & has.any(axis=1)).any():
        return  # leaving users out made another user complete
    users, positives, negatives = TripleSampler.of(interactions_of(has)).epoch(0, epoch)
    pairs = np.stack([users, positives], 1)
    np.testing.assert_array_equal(pairs[np.lexsort(pairs.T[::-1])], np.argwhere(has))
    assert not has[users, negatives].any()
    assert warm[negatives].all()


def test_negatives_are_uniform_over_the_candidates():
    has = np.zeros((3, 12), bool)
    has[0, [0, 1, 5, 11]] = has[1, [2, 3, 4]] = has[2, [6, 7, 8, 9]] = True  # item 10 is cold
    sampler = TripleSampler.of(interactions_of(has))
    triples = np.concatenate([sampler.epoch(7, epoch) for epoch in range(5000)], axis=1)
    for user in range(3):
        drawn = np.bincount(triples[2, triples[0] == user], minlength=12)
        candidates = has.any(axis=0) & ~has[user]
        assert (drawn[~candidates] == 0).all()
        assert chisquare(drawn[candidates]).pvalue > 1e-4


def test_an_epoch_follows_from_its_seed_and_number():
    sampler = TripleSampler.of(interactions_of(np.random.default_rng(0).random((20, 30)) < 0.3))
    first = sampler.epoch(3, 5)
    np.testing.assert_array_equal(first, sampler.epoch(3, 5))
    assert (first != sampler.epoch(3, 6)).any()
    assert (first != sampler.epoch(4, 5)).any()
    assert first.dtype == np.int32


def test_incomplete_last_batch_is_left_out_on_request():
    sampler = TripleSampler.of(interactions_of(np.eye(10, 12, dtype=bool)))
    assert sampler.epoch(0, 0).shape == (3, 10)
    np.testing.assert_array_equal(sampler.epoch(0, 0, drop_below=4), sampler.epoch(0, 0)[:, :8])


def test_a_user_with_every_warm_item_is_named():
    has = np.array([[True, False, False], [True, True, False]])
    with pytest.raises(UserError, match="user 1 has every item"):
        TripleSampler.of(interactions_of(has))
