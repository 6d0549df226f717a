import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from src.metrics import significance
from src.metrics.significance import (
    bootstrap_interval,
    decrease,
    decrease_interval,
    interval_of_sums,
    mean_interval,
    paired_t_test,
    paired_tests,
)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_tests_match_scipy_column_by_column():
    rng = np.random.default_rng(0)
    before = rng.poisson(1.0, (200, 3, 2)).astype(float)  # many ties and zeros, as CHR has
    after = before + rng.integers(-1, 3, before.shape) * (rng.random(before.shape) < 0.3)
    p_t, p_wilcoxon = paired_tests(before, after)
    assert p_t.shape == p_wilcoxon.shape == (3, 2)
    np.testing.assert_allclose(p_t, stats.ttest_rel(after, before, axis=0).pvalue)
    np.testing.assert_allclose(
        p_wilcoxon, stats.wilcoxon(after, before, axis=0, correction=False).pvalue
    )


def test_continuous_values_match_scipy():
    rng = np.random.default_rng(1)
    before = rng.normal(size=100)
    after = before + rng.normal(0.2, 1, 100)
    p_t, p_wilcoxon = paired_tests(before, after)
    assert float(p_t) == pytest.approx(stats.ttest_rel(after, before).pvalue)
    assert float(p_wilcoxon) == pytest.approx(stats.wilcoxon(after, before).pvalue)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(2, 30), st.just(3)), elements=st.integers(-3, 3))
)
def test_small_samples_match_scipy(differences):
    p_t, p_wilcoxon = paired_tests(np.zeros_like(differences), differences)
    for column, t, wilcoxon in zip(differences.T, p_t, p_wilcoxon, strict=True):
        if not column.any():
            assert t == wilcoxon == 1
            continue
        if np.ptp(column):
            assert t == pytest.approx(stats.ttest_1samp(column, 0).pvalue)
        expected = stats.wilcoxon(column, method="asymptotic").pvalue
        assert wilcoxon == pytest.approx(expected)


def test_nothing_differs():
    values = np.random.default_rng(0).normal(size=(10, 2))
    p_t, p_wilcoxon = paired_tests(values, values)
    assert p_t.tolist() == p_wilcoxon.tolist() == [1, 1]


def test_the_same_change_everywhere_is_certain():
    assert paired_tests(np.zeros(5), np.ones(5))[0] == 0


def test_a_single_pair_is_not_tested():
    p_t, p_wilcoxon = paired_tests(np.zeros((1, 2)), np.ones((1, 2)))
    assert np.isnan(p_t).all() and np.isnan(p_wilcoxon).all()


def test_more_columns_than_16_bits():
    before = np.zeros((3, 70_000))
    after = before.copy()
    after[:, -1] = [1, 2, 4]
    p_t, p_wilcoxon = paired_tests(before, after)
    assert (p_t[:-1] == 1).all() and (p_wilcoxon[:-1] == 1).all()
    assert p_t[-1] == pytest.approx(stats.ttest_1samp([1, 2, 4], 0).pvalue)


def test_interval_agrees_with_scipys_bootstrap():
    values = np.random.default_rng(0).exponential(size=300)
    low, high = bootstrap_interval(values)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert low == pytest.approx(theirs.low, abs=0.06 * width)
    assert high == pytest.approx(theirs.high, abs=0.06 * width)


def test_interval_is_reproducible():
    values = np.random.default_rng(0).normal(size=(50, 2, 3))
    first, again = bootstrap_interval(values), bootstrap_interval(values)
    assert first[0].shape == (2, 3)
    np.testing.assert_array_equal(first, again)


def test_interval_of_a_constant_is_that_constant():
    low, high = bootstrap_interval(np.full((5000, 1), 0.25))
    assert low == pytest.approx(0.25) and high == pytest.approx(0.25)


def test_groups_give_the_interval_of_users(monkeypatch):
    values = np.random.default_rng(0).exponential(size=(6000, 40))
    grouped = bootstrap_interval(values)
    monkeypatch.setattr(significance, "RANDOM_GROUPS", 6000)
    apart = bootstrap_interval(values)
    width = (apart[1] - apart[0]).mean()
    # Each bound moves with the resampling by about 3 % of the width, their mean by far less.
    np.testing.assert_allclose(grouped[0], apart[0], atol=0.15 * width)
    assert (grouped[1] - grouped[0]).mean() == pytest.approx(width, rel=0.02)


def test_groups_of_unlike_size_weigh_by_their_users():
    sums, sizes = np.array([[3.0], [1.0]]), np.array([3, 1])  # every user has the value 1
    low, high = interval_of_sums(sums, sizes)
    assert low == high == 1


def test_interval_covers_the_mean_of_the_population():
    rng = np.random.default_rng(0)
    samples = rng.exponential(size=(100, 400))
    low, high = bootstrap_interval(samples)
    covered = ((low <= 1) & (high >= 1)).mean()
    assert 0.89 <= covered <= 0.98


def test_decrease_is_in_percent_of_what_was_there():
    np.testing.assert_allclose(decrease(np.array([0.8, 0.5]), np.array([0.6, 0.6])), [25, -20])
    assert np.isnan(decrease(np.zeros(1), np.ones(1))).all()


def test_decrease_interval_of_two_users_by_hand():
    """User 0, who loses nothing, is drawn 0, 1 or 2 times in 25, 50 and 25 % of the resamples."""
    before, after = np.ones((1, 2)), np.array([[1.0, 0.0]])
    assert [float(bound) for bound in decrease_interval(before, after)] == [0, 100]


def test_decrease_interval_where_seeds_differ_by_hand():
    """All users are alike, so that only the number of draws of seed 0, which loses nothing, counts."""
    before, after = np.ones((2, 30)), np.repeat([[1.0], [0.0]], 30, axis=1)
    assert [float(bound) for bound in decrease_interval(before, after)] == [0, 100]


def test_decrease_interval_agrees_with_a_loop_over_resamples(monkeypatch):
    rng = np.random.default_rng(0)
    before = (rng.random((4, 60, 2)) < [0.5, 0.8]).astype(float)
    after = before * (rng.random(before.shape) < rng.uniform(0.5, 1, (4, 1, 1)))
    decreases = []
    for _ in range(4000):
        cells = np.ix_(rng.integers(0, 4, 4), rng.integers(0, 60, 60))
        decreases.append(100 - 100 * after[cells].mean((0, 1)) / before[cells].mean((0, 1)))
    bounds = np.percentile(decreases, (2.5, 97.5), axis=0)
    width = bounds[1] - bounds[0]
    monkeypatch.setattr(significance, "RESAMPLES", 4000)
    low, high = decrease_interval(before, after)
    assert low.shape == high.shape == (2,)
    assert (np.abs(np.stack([low, high]) - bounds) < 0.05 * width).all()


def test_decrease_interval_of_one_seed_is_that_of_its_users():
    rng = np.random.default_rng(0)
    after = rng.random((1, 300))
    low, high = decrease_interval(np.ones_like(after), after)
    of_mean = bootstrap_interval(after[0])
    assert (low, high) == pytest.approx((100 - 100 * of_mean[1], 100 - 100 * of_mean[0]))


def test_decrease_interval_of_many_users_is_that_of_their_groups(monkeypatch):
    rng = np.random.default_rng(0)
    before = rng.exponential(size=(2, 6000, 3))
    after = before * rng.random(before.shape)
    grouped = decrease_interval(before, after)
    monkeypatch.setattr(significance, "RANDOM_GROUPS", 6000)
    apart = decrease_interval(before, after)
    width = (apart[1] - apart[0]).mean()
    np.testing.assert_allclose(grouped, apart, atol=0.15 * width)


def test_decrease_interval_is_not_known_where_nothing_can_be_lost():
    before = np.zeros((2, 5, 2))
    before[..., 0] = 1
    low, high = decrease_interval(before, 0.5 * before)
    assert low[0] == high[0] == 50
    assert np.isnan([low[1], high[1]]).all()


def test_mean_interval_over_seeds_is_students():
    values = np.random.default_rng(0).normal(size=(5, 3))
    low, high = mean_interval(values)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose([low, high], [theirs.low, theirs.high])
    assert np.isnan(mean_interval(values[:1])).all()


def test_paired_t_test_is_students():
    differences = np.random.default_rng(0).normal(0.2, 1, (20, 3))
    differences[:, 2] = 0
    found = paired_t_test(differences)
    assert found[:2] == pytest.approx(stats.ttest_1samp(differences[:, :2], 0).pvalue)
    assert found[2] == 1 and np.isnan(paired_t_test(differences[:1])).all()
