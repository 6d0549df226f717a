from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from src.metrics.popularity_bias import (
    average_recommendation_popularity,
    coverage,
    exposure,
    gini_index,
    long_tail,
    long_tail_share,
)

N_ITEMS = 12
POPULARITY = hnp.arrays(np.int64, N_ITEMS, elements=st.integers(0, 40))


@st.composite
def lists(draw):
    """Draw lists of distinct items, some short and padded, and some K."""
    n_users, length = draw(st.integers(1, 6)), draw(st.integers(1, N_ITEMS))
    rows = np.full((n_users, length), -1)
    for row in rows:
        items = draw(st.permutations(range(N_ITEMS)))[: draw(st.integers(1, length))]
        row[: len(items)] = items
    return rows, sorted(draw(st.sets(st.integers(1, 15), min_size=1, max_size=4)))


def shown(row, k):
    return [item for item in row[:k].tolist() if item >= 0]


def mean_absolute_difference(values):
    """Compute the Gini index as economists do: half of the relative mean absolute difference."""
    values = [Fraction(int(value)) for value in values]
    differences = sum(abs(a - b) for a in values for b in values)
    return differences / (2 * len(values) * sum(values))


def test_by_hand():
    popularity = np.array([50, 30, 10, 6, 4])
    items = np.array([[0, 1, 2], [0, 3, -1]])
    np.testing.assert_array_equal(long_tail(popularity), [False, False, True, True, True])
    np.testing.assert_array_equal(
        average_recommendation_popularity(items, popularity, [1, 2, 3]),
        [[50, 40, 30], [50, 28, 28]],
    )
    np.testing.assert_array_equal(
        long_tail_share(items, long_tail(popularity), [1, 2, 3]), [[0, 0, 1 / 3], [0, 0.5, 0.5]]
    )
    shows = exposure(items, 5, [1, 3])
    np.testing.assert_array_equal(shows, [[2, 0, 0, 0, 0], [2, 1, 1, 1, 0]])
    np.testing.assert_allclose(coverage(shows), [0.2, 0.8])
    # Sorted 0 1 1 1 2 with weights -4 -2 0 2 4, over 5 items and 5 places.
    np.testing.assert_allclose(gini_index(shows), [0.8, (-2 + 2 + 8) / 25])


@pytest.mark.parametrize(
    ("popularity", "tail"),
    [
        ([8, 1, 1], [False, True, True]),  # exactly 80 %
        ([79, 11, 10], [False, False, True]),  # the item that passes 80 % is still head
        ([1, 1, 1, 1, 1], [False, False, False, False, True]),  # ties: lower ids first
        ([0, 2, 0, 3], [True, False, True, False]),
        ([0, 0], [True, True]),
    ],
)
def test_long_tail_by_hand(popularity, tail):
    np.testing.assert_array_equal(long_tail(np.array(popularity)), tail)


@given(POPULARITY)
def test_head_is_the_smallest_that_holds_its_share(popularity):
    tail, percent = long_tail(popularity), 80
    head = np.flatnonzero(~tail)
    assert 100 * popularity[head].sum() >= percent * popularity.sum()
    if len(head):
        assert popularity[head].min() >= popularity[tail].max(initial=0)
        assert 100 * (popularity[head].sum() - popularity[head].min()) < percent * popularity.sum()


@given(lists(), POPULARITY)
def test_measures_of_users_against_brute_force(rows_and_ks, popularity):
    rows, ks = rows_and_ks
    tail = long_tail(popularity)
    arp = average_recommendation_popularity(rows, popularity, ks)
    aplt = long_tail_share(rows, tail, ks)
    assert arp.shape == aplt.shape == (len(rows), len(ks))
    for row, of_user, share in zip(rows, arp, aplt, strict=True):
        for k, popular, rare in zip(ks, of_user, share, strict=True):
            items = shown(row, k)
            assert popular == pytest.approx(sum(popularity[i] for i in items) / len(items))
            assert rare == pytest.approx(sum(tail[i] for i in items) / len(items))
    np.testing.assert_allclose(aplt + long_tail_share(rows, ~tail, ks), 1)


@given(lists())
def test_measures_of_all_lists_against_brute_force(rows_and_ks):
    rows, ks = rows_and_ks
    shows = exposure(rows, N_ITEMS, ks)
    for k, of_k, share, gini in zip(ks, shows, coverage(shows), gini_index(shows), strict=True):
        count = Counter(item for row in rows for item in shown(row, k))
        assert of_k.tolist() == [count[item] for item in range(N_ITEMS)]
        assert 0 < share == len(count) / N_ITEMS <= 1
        assert gini == pytest.approx(float(mean_absolute_difference(of_k)))
        assert 0 <= gini <= 1 - 1 / N_ITEMS + 1e-12


@given(st.integers(1, 200), st.integers(1, 1000))
def test_gini_index_from_even_to_one_item(n_items, times):
    assert gini_index(np.full(n_items, float(times))) == 0
    one = np.zeros(n_items)
    one[n_items // 2] = times
    assert gini_index(one) == pytest.approx(1 - 1 / n_items)


@given(hnp.arrays(np.int64, 10, elements=st.integers(0, 50)).filter(np.any), st.integers(2, 5))
def test_gini_index_knows_neither_order_nor_scale(shows, factor):
    assert gini_index(shows[::-1] * factor) == pytest.approx(gini_index(shows))


def test_a_move_from_the_rich_to_the_poor_lowers_the_gini_index():
    assert gini_index(np.array([9, 2, 1])) > gini_index(np.array([8, 2, 2]))
