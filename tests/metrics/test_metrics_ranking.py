import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from src.metrics.ranking import auc, hit_ratio, ndcg

RANKS = np.array([0, 1, 4, 5, 100])


def test_hit_ratio():
    np.testing.assert_array_equal(hit_ratio(RANKS, 5), [1, 1, 1, 0, 0])


def test_ndcg():
    expected = [1, math.log(2) / math.log(3), math.log(2) / math.log(6), 0, 0]
    np.testing.assert_allclose(ndcg(RANKS, 5), expected)


def test_auc():
    np.testing.assert_allclose(auc(np.array([0, 5, 10]), np.array([10, 10, 10])), [1, 0.5, 0])
    assert auc(np.array([0]), np.array([0])) == [1.0]


@given(st.lists(st.floats(-1, 1).map(lambda x: round(x, 1)), min_size=2, max_size=30))
def test_auc_is_the_share_of_negatives_below(scores):
    held_out, negatives = scores[0], np.array(scores[1:])
    rank = np.array([(negatives >= held_out).sum()])
    expected = (negatives < held_out).mean()
    np.testing.assert_allclose(auc(rank, np.array([len(negatives)])), expected)


@given(st.lists(st.integers(0, 200), min_size=1), st.integers(1, 100))
def test_ndcg_is_within_the_hit_ratio(ranks, k):
    ranks = np.array(ranks)
    gain, hit = ndcg(ranks, k), hit_ratio(ranks, k)
    assert ((gain >= 0) & (gain <= hit)).all()
    np.testing.assert_array_equal(gain > 0, hit > 0)
