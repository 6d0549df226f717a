import numpy as np
import pytest
from scipy import stats

from src.metrics.effects import (
    Factor,
    equivalence,
    holm,
    nested_interval,
    smallest_effect,
    verdict,
    weakest_level,
)

TRAINING = Factor("extractor training")
SEED = Factor("recommender seed", within="extractor training")
USER = Factor("user")
FACTORS = (TRAINING, SEED, USER)
SIZES = [(5, 5, 50), (3, 3, 200), (10, 2, 20)]
SDS = {"extractor training": 1.0, "recommender seed": 0.5, "user": 1.0}
N = 4000
"""Simulated studies; the share of 95 % has a standard error of .0034."""


def studies(sizes, sds, effect=0.0, noise=1.0, seed=0):
    """Draw effects (trainings, seeds, users, N) with known components of variance."""
    rng = np.random.default_rng(seed)
    trainings, seeds, users = sizes
    return (
        effect
        + sds["extractor training"] * rng.standard_normal((trainings, 1, 1, N))
        + sds["recommender seed"] * rng.standard_normal((trainings, seeds, 1, N))
        + sds["user"] * rng.standard_normal((1, 1, users, N))
        + noise * rng.standard_normal((trainings, seeds, users, N))
    )


@pytest.mark.parametrize("sizes", SIZES)
def test_intervals_cover_the_true_effect(sizes):
    found = nested_interval(studies(sizes, SDS, effect=0.7), FACTORS)
    covered = (found.low <= 0.7) & (found.high >= 0.7)
    assert 0.93 <= covered.mean() <= 0.97
    for name, sd in SDS.items():
        assert np.sqrt(np.square(found.sds[name]).mean()) == pytest.approx(sd, rel=0.1)
    assert found.weakest_level == f"{sizes[0]} extractor trainings"


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("sds", [SDS, {**SDS, "extractor training": 0.0, "user": 3.0}])
def test_a_true_effect_of_0_is_rarely_called_an_effect(sizes, sds):
    found = nested_interval(studies(sizes, sds, seed=1), FACTORS)
    said = np.array([verdict(*bounds, 0.01) for bounds in zip(found.low, found.high, strict=True)])
    assert (said == "effect").mean() <= 0.05 + 3 * 0.0034
    assert ((found.p_value < 0.05) == (said == "effect")).all()


def test_recommenders_of_one_training_judge_an_attack_that_is_noise():
    """With one training it is the seeds and users that keep a null from being called an effect."""
    found = nested_interval(studies((1, 3, 200), {**SDS, "extractor training": 0.0}), FACTORS)
    assert found.weakest_level == "1 extractor training"
    assert ((found.low > 0) | (found.high < 0)).mean() <= 0.05 + 3 * 0.0034


def test_users_of_one_training_do_not_make_up_for_trainings():
    """Two hundred users of one extractor agree with each other, not with the next extractor."""
    sds = {"extractor training": 1.0, "recommender seed": 0.1, "user": 1.0}
    one = nested_interval(studies((1, 3, 200), sds), FACTORS)
    assert one.weakest_level == "1 extractor training"
    assert ((one.low > 0) | (one.high < 0)).mean() > 0.3
    assert set(one.sds) == {"recommender seed", "user"}


def test_one_factor_gives_students_interval_and_test():
    values = np.array([0.3, 0.5, -0.1, 0.4])
    found = nested_interval(values, [Factor("seed")])
    expected = stats.ttest_1samp(values, 0)
    low, high = expected.confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx([low, high])
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.sds["seed"] == pytest.approx(values.std(ddof=1))


def test_nested_seeds_enter_through_the_means_of_their_trainings():
    values = np.random.default_rng(0).normal(size=(4, 3))
    found = nested_interval(values, [TRAINING, SEED])
    low, high = stats.ttest_1samp(values.mean(axis=1), 0).confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx([low, high])
    between, within = 3 * values.mean(axis=1).var(ddof=1), values.var(axis=1, ddof=1).mean()
    assert found.sds["recommender seed"] == pytest.approx(np.sqrt(within))
    expected = np.sqrt(max(between - within, 0) / 3)
    assert found.sds["extractor training"] == pytest.approx(expected)


def test_a_third_crossed_factor_widens_the_interval():
    """Pairs of classes cross with trainings and users, so that the variance includes their spread."""
    rng = np.random.default_rng(0)
    of_pairs = np.array([-1.0, 0.0, 1.0])[:, None]
    values = of_pairs + 0.1 * rng.standard_normal((5, 3, 40))
    found = nested_interval(values, [TRAINING, Factor("pair"), USER])
    assert found.high - found.low > 2 * stats.t.ppf(0.975, 2) * 0.9 / np.sqrt(3)
    assert found.sds["pair"] == pytest.approx(1, rel=0.1)
    assert found.weakest_level == "3 pairs"


def test_equal_values_have_an_interval_of_length_0():
    found = nested_interval(np.zeros((3, 2, 5)), FACTORS)
    assert found.low == found.high == 0 and found.p_value == 1
    same = nested_interval(np.full((3, 2, 5), 0.5), FACTORS)
    assert same.low == same.high == 0.5 and same.p_value == 0


def test_a_single_value_has_no_interval():
    found = nested_interval(np.ones((1, 1, 1)), FACTORS)
    assert found.effect == 1
    assert np.isnan([found.low, found.high, found.p_value]).all()
    assert verdict(float(found.low), float(found.high), 0.1) == "undecided"
    assert np.isnan(smallest_effect(SDS, FACTORS, (1, 1, 1)))


def test_the_weakest_level_counts_nested_units_together():
    assert weakest_level(FACTORS, (10, 1, 500)) == "10 extractor trainings"
    assert weakest_level(FACTORS, (10, 3, 4)) == "4 users"
    assert weakest_level(FACTORS, (1, 1, 500)) == "1 extractor training"


@pytest.mark.parametrize(
    ("low", "high", "margin", "said"),
    [
        (0.1, 0.3, 0.05, "effect"),
        (-0.3, -0.1, 0.05, "effect"),
        (0.1, 0.3, 0.4, "equivalent"),
        (-0.02, 0.03, 0.05, "equivalent"),
        (-0.02, 0.06, 0.05, "undecided"),
        (0.0, 0.0, 0.0, "equivalent"),
        (np.nan, np.nan, 0.05, "undecided"),
    ],
)
def test_verdicts(low, high, margin, said):
    assert verdict(low, high, margin) == said


def test_equivalence_is_two_one_sided_tests():
    values = np.random.default_rng(1).normal(0.1, 0.3, 30)
    found = nested_interval(values, [USER])
    for margin in (0.1, 0.2, 0.21, 0.22, 0.25, 0.3):
        above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(values, margin, alternative="less").pvalue
        assert equivalence(found.low, found.high, margin) == (max(above, below) <= 0.025)


def test_holm_corrects_the_smallest_most():
    corrected = holm(np.array([0.01, np.nan, 0.04, 0.03, 0.5]))
    assert corrected[[0, 2, 3, 4]] == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert np.isnan(corrected[1])
    assert len(holm(np.array([]))) == 0


@pytest.mark.parametrize("sizes", SIZES)
def test_the_smallest_effect_is_found_with_the_stated_power(sizes):
    effect = smallest_effect(SDS, FACTORS, sizes)
    found = nested_interval(studies(sizes, SDS, effect, noise=0.1, seed=2), FACTORS)
    assert 0.7 <= (found.low > 0).mean() <= 0.87
