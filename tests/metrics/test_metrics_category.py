import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from src.metrics import category_hit_ratio as category
from src.metrics.category_hit_ratio import (
    category_changes,
    category_hit_ratio,
    category_sums,
    discounts,
    ideal_dcg,
    ncdcg,
)

N_ITEMS, N_CATEGORIES = 12, 4


def brute_force(row, members, k):
    """Compute (hits, nCDCG) of one list by the definitions."""
    hits = [position for position, item in enumerate(row[:k]) if item in members]
    ideal = sum(1 / math.log2(r + 2) for r in range(min(len(members), k)))
    dcg = sum(1 / math.log2(r + 2) for r in hits)
    return len(hits), dcg / ideal if hits else 0.0


@st.composite
def lists(draw):
    """Draw lists of distinct items, some short and padded, the category of every item, and some K."""
    n_users, length = draw(st.integers(1, 6)), draw(st.integers(1, N_ITEMS))
    rows = np.full((n_users, length), -1)
    for row in rows:
        items = draw(st.permutations(range(N_ITEMS)))[: draw(st.integers(0, length))]
        row[: len(items)] = items
    categories = draw(hnp.arrays(np.int64, N_ITEMS, elements=st.integers(0, N_CATEGORIES - 1)))
    ks = sorted(draw(st.sets(st.integers(1, 15), min_size=1, max_size=4)))
    return rows, categories, ks


def test_published_vector():
    items = np.array([[10, 0, 11, 1, 12]])  # hits at positions 1 and 3 of 5, three items in all
    members = np.isin(np.arange(20), [0, 1, 2])
    assert category_hit_ratio(items, members, [5])[0, 0] == 2
    assert category_hit_ratio(items, members, [5], normalised=True)[0, 0] == 0.4
    gain = math.log(2) / math.log(3) + math.log(2) / math.log(5)
    ideal = 1 + math.log(2) / math.log(3) + math.log(2) / math.log(4)
    assert ncdcg(items, members, [5])[0, 0] == pytest.approx(gain / ideal)


def test_published_value_with_hits_at_the_first_and_third_position():
    items = np.array([[0, 10, 1, 11, 12]])
    members = np.isin(np.arange(20), [0, 1, 2])
    assert ncdcg(items, members, [5])[0, 0] == pytest.approx(0.70392, abs=5e-6)
    assert ideal_dcg(3, 5) == pytest.approx(2.13093, abs=5e-6)


def test_no_item_of_the_category_is_zero():
    items = np.array([[1, 2, 3]])
    members = np.isin(np.arange(5), [0])
    assert ncdcg(items, members, [1, 3]).tolist() == [[0, 0]]
    assert ncdcg(items, np.zeros(5, bool), [3]).tolist() == [[0]]


def test_a_small_category_first_in_the_list_is_ideal():
    items = np.array([[4, 3, 0, 1]])
    assert ncdcg(items, np.isin(np.arange(5), [3, 4]), [2, 4])[0] == pytest.approx([1, 1])


@given(lists())
def test_one_category_matches_the_definitions(case):
    items, categories, ks = case
    members = categories == 0
    expected = [[brute_force(row, set(np.flatnonzero(members)), k) for k in ks] for row in items]
    np.testing.assert_allclose(category_hit_ratio(items, members, ks), np.array(expected)[..., 0])
    np.testing.assert_allclose(ncdcg(items, members, ks), np.array(expected)[..., 1], atol=1e-12)


@given(lists())
def test_all_categories_match_each_one_alone(case):
    items, categories, ks = case
    n_users = len(items)
    apart = np.arange(n_users), n_users
    hits = category_sums(items, categories, N_CATEGORIES, ks, np.ones(ks[-1]), *apart)
    gains = category_sums(items, categories, N_CATEGORIES, ks, discounts(ks[-1]), *apart)
    assert hits.shape == (n_users, len(ks), N_CATEGORIES)
    for number in range(N_CATEGORIES):
        members = categories == number
        ideal = [ideal_dcg(members.sum(), k) for k in ks]
        np.testing.assert_array_equal(hits[:, :, number], category_hit_ratio(items, members, ks))
        np.testing.assert_allclose(gains[:, :, number] / ideal, ncdcg(items, members, ks))


@given(lists())
def test_groups_add_up_their_users(case):
    items, categories, ks = case
    gains = discounts(ks[-1])
    groups = np.arange(len(items)) % 2
    apart = category_sums(
        items, categories, N_CATEGORIES, ks, gains, np.arange(len(items)), len(items)
    )
    together = category_sums(items, categories, N_CATEGORIES, ks, gains, groups, 2)
    for group in (0, 1):
        np.testing.assert_allclose(together[group], apart[groups == group].sum(axis=0))


@given(lists(), st.randoms(use_true_random=False))
def test_changes_are_the_nonzero_differences(case, random):
    before, categories, ks = case
    after = before[random.sample(range(len(before)), len(before))]
    gains = discounts(ks[-1])
    apart = ks, gains, np.arange(len(before)), len(before)
    expected = category_sums(after, categories, N_CATEGORIES, *apart)
    expected -= category_sums(before, categories, N_CATEGORIES, *apart)
    expected = expected.reshape(len(before), -1)
    column, change = category_changes(before, after, categories, N_CATEGORIES, ks, gains)
    user, expected_column = np.nonzero(expected)
    np.testing.assert_array_equal(column, expected_column)
    np.testing.assert_array_equal(change, expected[user, expected_column])


def test_changes_do_not_depend_on_the_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    before = np.stack([rng.permutation(N_ITEMS) for _ in range(10)])
    after = np.stack([rng.permutation(N_ITEMS) for _ in range(10)])
    categories = rng.integers(0, N_CATEGORIES, N_ITEMS)
    arguments = (before, after, categories, N_CATEGORIES, [2, 5], np.ones(5))
    whole = category_changes(*arguments)
    monkeypatch.setattr(category, "USERS_PER_BLOCK", 3)
    for one, other in zip(whole, category_changes(*arguments), strict=True):
        np.testing.assert_array_equal(one, other)
