"""Intervals of means, and tests of whether two sets of paired values differ."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

CONFIDENCE = 0.95
"""Confidence of every interval."""
RESAMPLES = 1000
RANDOM_GROUPS = 2048
"""Largest number of units to resample. More users than that are first put into this many groups."""


@dataclass(frozen=True)
class Estimate:
    """Value and the bounds of its 95 % interval; NaN without a value or an interval."""

    value: float
    low: float = np.nan
    high: float = np.nan

    def columns(self, name: str) -> dict[str, float]:
        """Return the columns ``name``, ``name_low`` and ``name_high`` of a table."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def percentile_bounds(resampled: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the percentiles (2, ...) along ``axis`` between which ``CONFIDENCE`` of the values lie.

    ``resampled`` is sorted in part.
    """
    tail = 50 * (1 - CONFIDENCE)
    return np.percentile(resampled, (tail, 100 - tail), axis=axis, overwrite_input=True)


def random_groups(n_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide users into at most ``RANDOM_GROUPS`` groups: (group of each user, size of each group).

    The sizes differ by at most 1, so the variance of a group's mean is that of a user divided by the
    size. Resampling groups instead of users gives the same interval (Wolter, Introduction to Variance
    Estimation, chapter 2) for a tenth of the work at 24,379 users.
    """
    n_groups = min(n_users, RANDOM_GROUPS)
    groups = np.arange(n_users) % n_groups
    if n_users > n_groups:
        np.random.default_rng(0).shuffle(groups)
    return groups, np.bincount(groups)


def interval_of_sums(sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile bootstrap interval of means over users, from sums over groups of users.

    ``sums`` (groups, ...) holds any number of measures, ``sizes`` (groups,) the number of users in each
    group. Returns (low, high), each of the shape of one group's sums. All measures share the same
    resamples, so that they cost one matrix product.
    """
    counts = _resample(len(sums), np.random.default_rng(0))
    means = (sums.reshape(len(sums), -1).T @ counts.T) / (counts @ sizes)
    low, high = percentile_bounds(means, axis=1)
    return low.reshape(sums.shape[1:]), high.reshape(sums.shape[1:])


def bootstrap_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile bootstrap interval (low, high) of the mean of ``values`` (users, ...)."""
    groups, sizes = random_groups(len(values))
    return interval_of_sums(_sums_of_groups(values, groups), sizes)


def _resample(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``n`` of ``n`` with replacement and return the counts: (RESAMPLES, n) float64."""
    draws = rng.integers(0, n, (RESAMPLES, n))
    draws += np.arange(RESAMPLES)[:, None] * n
    counts = np.bincount(draws.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n)
    return counts.astype(np.float64)


def _sums_of_groups(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sum values over the users of each group: (users, ...) -> (groups, ...)."""
    flat = values.reshape(len(values), -1)
    sums = np.stack([np.bincount(groups, column) for column in flat.T], axis=1)
    return sums.reshape(len(sums), *values.shape[1:])


def decrease(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the decrease from ``before`` to ``after`` in percent; NaN unless ``before`` > 0."""
    before = np.asarray(before, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(before > 0, 100 * (1 - after / before), np.nan)


def decrease_interval(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile bootstrap interval (low, high) of the ``decrease`` of a mean.

    The mean is over seeds and users. ``before`` and ``after`` are (seeds, users, ...) with the same
    users under every seed; the bounds have the remaining shape. Seeds and users cross, so each resample
    draws seeds and, independently, users (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics
    2007), and uses the same draw before and after. With a single seed only users are drawn.
    """
    n_seeds, n_users, *shape = before.shape
    groups, sizes = random_groups(n_users)
    rng = np.random.default_rng(0)
    of_users = _resample(len(sizes), rng)
    of_seeds = _resample(n_seeds, rng)
    values = np.stack([before, after]).reshape(2, n_seeds, n_users, -1)
    sums = _sums_of_groups(np.moveaxis(values, 2, 0), groups)
    resampled = (of_users @ sums.reshape(len(sizes), -1)).reshape(RESAMPLES, *sums.shape[1:])
    before_sums, after_sums = np.einsum("rs,rasm->arm", of_seeds, resampled)
    low, high = percentile_bounds(decrease(before_sums, after_sums))
    return low.reshape(shape), high.reshape(shape)


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Student's t interval (low, high) of the mean of ``values`` (seeds, ...) over seeds.

    It is parametric since a few seeds are too few to resample. Both bounds are NaN for one seed.
    """
    n = len(values)
    mean = values.mean(axis=0)
    if n < 2:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return mean - half, mean + half


def wilson_interval(
    successes: np.ndarray | int, n: np.ndarray | int
) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's interval (low, high) of ``successes`` / ``n``, in [0, 1]; NaN if ``n`` is 0.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    successes, n = np.asarray(successes, np.float64), np.asarray(n, np.float64)
    z = ndtri((1 + CONFIDENCE) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = successes / n
        centre = share + z**2 / (2 * n)
        half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        low, high = ((centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    # Rounding misses the ends 0 and 1, which are exact here.
    known = n > 0
    low = np.where(known & (successes == 0), 0.0, low)
    return low, np.where(known & (successes == n), 1.0, high)


def paired_tests(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two-sided p-values of paired differences: (t-test, Wilcoxon signed-rank test).

    ``before`` and ``after`` are (n, ...); row i of both is the same user (or seed). The p-values have
    the shape of one row. Both are 1 if no pair differs, and NaN if there is a single pair.
    """
    differences = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    n, *shape = differences.shape
    flat = differences.reshape(n, -1)
    row, column = np.nonzero(flat)
    p_t, p_wilcoxon = tests_of_changes(column, flat[row, column], n, flat.shape[1])
    return p_t.reshape(shape), p_wilcoxon.reshape(shape)


def paired_t_test(differences: np.ndarray) -> np.ndarray:
    """Return p-values of Student's t-test that the mean of ``differences`` (n, ...) is 0.

    They have the shape of one row: 1 where no pair differs, NaN if there is a single pair.
    """
    n = len(differences)
    if n < 2:
        return np.full(differences.shape[1:], np.nan)
    error = differences.std(axis=0, ddof=1) / np.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(n - 1, -np.abs(differences.mean(axis=0) / error))
    return np.where((differences == 0).all(axis=0), 1.0, p)


def tests_of_changes(
    column: np.ndarray, change: np.ndarray, n: int, n_columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute ``paired_tests`` of many measures from only the differences that are not zero.

    ``column`` (m,) in 0..n_columns-1 is the measure to which each entry of ``change`` (m,) belongs. All
    other differences of the ``n`` pairs are zero, as they are for most users in most categories.
    """
    if n < 2:
        return np.full(n_columns, np.nan), np.full(n_columns, np.nan)
    if len(change) == 0:
        return np.ones(n_columns), np.ones(n_columns)
    counts = np.bincount(column, minlength=n_columns)
    return _t_test(column, change, counts, n), _wilcoxon(column, change, counts)


def _t_test(column: np.ndarray, change: np.ndarray, counts: np.ndarray, n: int) -> np.ndarray:
    """Return p-values of Student's t-test that the mean of each column is 0."""
    mean = np.bincount(column, change, len(counts)) / n
    squares = np.bincount(column, np.square(change - mean[column]), len(counts))
    squares += (n - counts) * np.square(mean)
    error = np.sqrt(squares / (n - 1) / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(n - 1, -np.abs(mean / error))
    return np.where(counts > 0, p, 1.0)


def _wilcoxon(column: np.ndarray, change: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return p-values of Wilcoxon's signed-rank test of each column.

    Zeros are left out, ties share their mean rank, and the statistic is compared with its normal
    approximation with tie correction, as SciPy does for more than 50 pairs.
    """
    order = _order_within_columns(column, np.abs(change), counts)
    column, change = column[order], change[order]
    size = np.abs(change)
    first = np.flatnonzero(np.append(True, (np.diff(size) != 0) | (np.diff(column) != 0)))
    ties = np.diff(np.append(first, len(size)))
    tie_column = column[first]
    before_column = np.cumsum(counts) - counts
    mean_rank = first - before_column[tie_column] + (ties + 1) / 2

    positive = np.add.reduceat((change > 0).astype(np.int64), first)
    statistic = np.bincount(tie_column, positive * mean_rank, len(counts))
    correction = np.bincount(tie_column, ties**3.0 - ties, len(counts))
    n = counts.astype(np.float64)
    variance = n * (n + 1) * (2 * n + 1) / 24 - correction / 48
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * ndtr(-np.abs((statistic - n * (n + 1) / 4) / np.sqrt(variance)))
    return np.where(counts > 0, p, 1.0)


def _order_within_columns(column: np.ndarray, size: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the indices that sort by column and then by size.

    One stable sort by column and many small sorts by size are much faster than one sort by both: NumPy
    sorts 16-bit integers by radix, and a column fits into the cache.
    """
    narrow = np.uint16 if len(counts) <= 2**16 else np.int64
    order = np.argsort(column.astype(narrow), kind="stable")
    size = size[order]
    ends = np.cumsum(counts)
    for start, end in zip(ends - counts, ends, strict=True):
        order[start:end] = order[start:end][np.argsort(size[start:end])]
    return order
