"""Lists and ranks against their definitions, ties included."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.datasets.interactions import Interactions
from src.recommenders import gpu_ranking, ranking
from src.recommenders.ranking import top_k


@st.composite
def problems(draw) -> tuple[np.ndarray, np.ndarray, Interactions]:
    """Draw folded matrices of small integers, so that many scores tie, and interactions."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n_users, n_items, spread = (
        draw(st.integers(1, 9)),
        draw(st.integers(2, 15)),
        draw(st.integers(0, 3)),
    )
    users = rng.integers(-spread, spread + 1, (n_users, 3)).astype(np.float32)
    items = rng.integers(-spread, spread + 1, (n_items, 3)).astype(np.float32)
    has = rng.random((n_users, n_items)) < draw(st.floats(0, 0.9))
    held_out = ~has & (rng.random((n_users, n_items)) < draw(st.floats(0.05, 1)))
    return users, items, Interactions(np.argwhere(has), np.argwhere(held_out), n_users, n_items)


@given(problems(), st.integers(1, 20), st.sampled_from([1, 40, 2**22]))
def test_top_k_is_the_sorted_head_of_the_unseen_items(problem, k, scores_at_once):
    users, items, interactions = problem
    with_blocks(scores_at_once, lambda: check_top_k(users, items, interactions, k))


def check_top_k(users, items, interactions, k):
    best = top_k(users, items, interactions, k)
    assert best.items.shape == best.scores.shape == (len(users), min(k, len(items)))
    for user, scores in enumerate(users @ items.T):
        unseen = np.setdiff1d(np.arange(len(items)), seen_by(user, interactions))
        expected = sorted(unseen, key=lambda item: (-scores[item], item))[:k]
        kept = best.items[user] >= 0
        assert best.items[user][kept].tolist() == expected
        np.testing.assert_array_equal(best.scores[user][kept], scores[expected])
        assert (best.scores[user][~kept] == -np.inf).all()


@given(st.integers(0, 10_000), st.sampled_from([0.2, 1, 30]), st.integers(1, 20), st.floats(0, 0.9))
def test_the_best_of_long_rows_are_those_of_sorted_rows(seed, spread, k, seen):
    rng = np.random.default_rng(seed)
    scores = np.round(spread * rng.standard_normal((4, 300))).astype(np.float32)
    scores[0] = rng.standard_normal(300)  # no ties beside rows with many
    scores[rng.random(scores.shape) < seen] = -np.inf
    columns, values = ranking.best_of_rows(scores, k)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(columns, order)
    np.testing.assert_array_equal(values, np.take_along_axis(scores, order, 1))


@given(problems(), st.integers(0, 20), st.sampled_from([1, 40, 2**28]))
def test_torch_ranks_as_numpy_does_ties_included(problem, k, scores_at_once):
    users, items, interactions = problem
    usual, gpu_ranking.SCORES_AT_ONCE = gpu_ranking.SCORES_AT_ONCE, scores_at_once
    try:
        best, ranks = gpu_ranking.lists_and_ranks_on(torch.device("cpu"), *problem, k)
    finally:
        gpu_ranking.SCORES_AT_ONCE = usual
    expected, expected_ranks = ranking.lists_and_ranks(users, items, interactions, k)
    np.testing.assert_array_equal(best.items, expected.items)
    np.testing.assert_array_equal(best.scores, expected.scores)
    np.testing.assert_array_equal(columns(ranks), columns(expected_ranks))


@given(problems(), st.integers(1, 20), st.sampled_from([1, 40, 2**22]))
def test_parts_that_are_joined_are_the_undivided_ranking(problem, k, scores_at_once):
    users, items, interactions = problem

    def check() -> None:
        best, ranks = ranking.lists_and_ranks(users, items, interactions, k)
        found = []
        for block in ranking.user_parts(len(users), len(items)):
            part = interactions.block(block)
            lists, of_part = ranking.lists_and_ranks(users[block], items, part, k)
            np.testing.assert_array_equal(lists.items, best.items[block])
            found.append(columns(of_part) + np.array([[block.start], [0], [0], [0]]))
        np.testing.assert_array_equal(np.concatenate(found, axis=1), columns(ranks))

    usual, ranking.USERS_IN_PART = ranking.USERS_IN_PART, 2
    try:
        with_blocks(scores_at_once, check)
    finally:
        ranking.USERS_IN_PART = usual


def columns(ranks) -> np.ndarray:
    return np.stack([ranks.users, ranks.items, ranks.ranks, ranks.negatives])


@given(problems(), st.sampled_from([1, 40, 2**22]))
def test_rank_is_the_place_in_a_list_that_puts_held_out_items_last_in_ties(problem, scores_at_once):
    users, items, interactions = problem
    with_blocks(scores_at_once, lambda: check_ranks(users, items, interactions))


def check_ranks(users, items, interactions):
    ranks = ranking.test_ranks(users, items, interactions)
    scores = users @ items.T
    assert len(ranks.users) == len(interactions.test)
    for row, (user, item) in enumerate(interactions.test):
        held_out = interactions.test[interactions.test[:, 0] == user, 1]
        candidates = np.setdiff1d(np.arange(len(items)), seen_by(user, interactions))
        in_order = sorted(candidates, key=lambda one: (-scores[user, one], one in held_out, one))
        assert (ranks.users[row], ranks.items[row]) == (user, item)
        assert ranks.ranks[row] == in_order.index(item)
        assert ranks.negatives[row] == len(candidates) - len(held_out)


def test_a_constant_scorer_ranks_last_and_lists_by_item_id():
    interactions = Interactions(np.array([[0, 1]]), np.array([[0, 3]]), 1, 6)
    users, items = np.zeros((1, 2), np.float32), np.zeros((6, 2), np.float32)
    ranks = ranking.test_ranks(users, items, interactions)
    assert (ranks.ranks.tolist(), ranks.negatives.tolist()) == ([4], [4])
    assert top_k(users, items, interactions, 3).items.tolist() == [[0, 2, 3]]


def test_training_items_never_appear_even_when_the_list_is_longer_than_what_is_left():
    interactions = Interactions(np.array([[0, 0], [0, 2]]), np.empty((0, 2), np.int64), 1, 3)
    best = top_k(np.ones((1, 1), np.float32), np.ones((3, 1), np.float32), interactions, 3)
    assert best.items.tolist() == [[1, -1, -1]]
    assert best.scores.tolist() == [[1.0, -np.inf, -np.inf]]


def seen_by(user: int, interactions: Interactions) -> np.ndarray:
    return interactions.train[interactions.train[:, 0] == user, 1]


def with_blocks(scores_at_once: int, check) -> None:
    """Run a check with blocks of another size, on which the result must not depend."""
    usual = ranking.SCORES_AT_ONCE
    ranking.SCORES_AT_ONCE = scores_at_once
    try:
        check()
    finally:
        ranking.SCORES_AT_ONCE = usual
