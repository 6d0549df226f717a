import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.metrics.ranking import (
    auc,
    average_precision,
    hit_ratio,
    ndcg,
    precision,
    recall,
    reciprocal_rank,
)

RANKS = np.array([0, 1, 4, 5, 100])
USERS = np.arange(5)


def test_hit_ratio():
    np.testing.assert_array_equal(hit_ratio(USERS, RANKS, 5), [1, 1, 1, 0, 0])


def test_ndcg():
    expected = [1, math.log(2) / math.log(3), math.log(2) / math.log(6), 0, 0]
    np.testing.assert_allclose(ndcg(USERS, RANKS, 5), expected)


def test_auc():
    ranks, negatives = np.array([0, 5, 10]), np.array([10, 10, 10])
    np.testing.assert_allclose(auc(np.arange(3), ranks, negatives), [1, 0.5, 0])
    assert auc(np.array([0]), np.array([0]), np.array([0])) == [1.0]


def test_three_held_out_items_with_hits_at_places_two_and_four():
    users, ranks = np.zeros(3, np.int64), np.array([9, 1, 3])
    log2 = math.log2
    best = 1 + 1 / log2(3) + 1 / log2(4)
    assert hit_ratio(users, ranks, 5) == [1]
    assert recall(users, ranks, 5) == pytest.approx([2 / 3])
    assert precision(users, ranks, 5) == pytest.approx([0.4])
    assert ndcg(users, ranks, 5) == pytest.approx([(1 / log2(3) + 1 / log2(5)) / best])
    assert average_precision(users, ranks, 5) == pytest.approx([(1 / 2 + 2 / 4) / 3])
    assert reciprocal_rank(users, ranks, 5) == [0.5]
    # 1, 2 and 7 of ten negatives stand ahead of the held-out items
    assert auc(users, ranks, np.full(3, 10)) == pytest.approx([(0.9 + 0.8 + 0.3) / 3])


def test_no_held_out_item_gives_no_value():
    nothing = np.empty(0, np.int64)
    for measure in (hit_ratio, recall, precision, ndcg, average_precision, reciprocal_rank):
        assert measure(nothing, nothing, 5).shape == (0,)
    assert auc(nothing, nothing, nothing).shape == (0,)


@given(st.lists(st.floats(-1, 1).map(lambda x: round(x, 1)), min_size=2, max_size=30))
def test_auc_is_the_share_of_negatives_below(scores):
    held_out, negatives = scores[0], np.array(scores[1:])
    rank = np.array([(negatives >= held_out).sum()])
    expected = (negatives < held_out).mean()
    np.testing.assert_allclose(auc(np.zeros(1), rank, np.array([len(negatives)])), expected)


@given(st.lists(st.integers(0, 200), min_size=1), st.integers(1, 100))
def test_ndcg_is_within_the_hit_ratio(ranks, k):
    users, ranks = np.arange(len(ranks)), np.array(ranks)
    gain, hit = ndcg(users, ranks, k), hit_ratio(users, ranks, k)
    assert ((gain >= 0) & (gain <= hit)).all()
    np.testing.assert_array_equal(gain > 0, hit > 0)


@given(
    st.lists(st.sets(st.integers(0, 30), min_size=1, max_size=8), min_size=1, max_size=6),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_every_measure_equals_a_loop_over_the_places_of_each_list(places, k, random):
    users, ranks = [], []
    for user, of_user in enumerate(places):
        of_user = list(of_user)
        random.shuffle(of_user)
        users += [3 * user] * len(of_user)  # users without held-out items leave gaps
        ranks += of_user
    users, ranks = np.array(users), np.array(ranks)
    negatives = np.array([40 - len(places[user // 3]) for user in users])
    found = {
        "hr": hit_ratio(users, ranks, k),
        "recall": recall(users, ranks, k),
        "precision": precision(users, ranks, k),
        "ndcg": ndcg(users, ranks, k),
        "map": average_precision(users, ranks, k),
        "mrr": reciprocal_rank(users, ranks, k),
        "auc": auc(users, ranks, negatives),
    }
    for user, of_user in enumerate(places):
        for name, expected in of_one_list(of_user, k, n_candidates=40).items():
            assert found[name][user] == pytest.approx(expected), name


def of_one_list(places, k, n_candidates):
    """Measure one list that holds relevant items at ``places``, place by place."""
    relevant = [place in places for place in range(n_candidates)]
    hits, dcg, precisions, first = 0, 0.0, 0.0, None
    for place in range(min(k, n_candidates)):
        if relevant[place]:
            hits += 1
            dcg += 1 / math.log2(place + 2)
            precisions += hits / (place + 1)
            first = place if first is None else first
    at_most = min(len(places), k)
    pairs = [
        better < worse for better in places for worse in range(n_candidates) if not relevant[worse]
    ]
    return {
        "hr": float(hits > 0),
        "recall": hits / len(places),
        "precision": hits / k,
        "ndcg": dcg / sum(1 / math.log2(place + 2) for place in range(at_most)),
        "map": precisions / at_most,
        "mrr": 0.0 if first is None else 1 / (first + 1),
        "auc": sum(pairs) / len(pairs),
    }
