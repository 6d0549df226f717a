"""Agreement between an image metric and people who say which reconstructions they recognise."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from src.metrics.significance import Estimate, percentile_bounds

RESAMPLES = 2000
_CELLS_AT_ONCE = 2**22
"""Size of the largest array that a block of resamples needs."""
_ROUNDING = 1e-12
"""Relative tolerance for equal means: sums are rounded, so equal means may differ slightly."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of a metric with people.

    ``spearman``, ``kendall`` and ``pearson`` compare models and lie in [-1, 1]; ``auc`` and
    ``auc_within`` compare reconstructions and lie in [0, 1].
    """

    spearman: Estimate
    kendall: Estimate
    """Kendall's tau-b."""
    pearson: Estimate
    auc: Estimate
    """Share of the pairs of a recognised and an unrecognised reconstruction in which the metric calls
    the recognised one closer."""
    auc_within: Estimate
    """Value of ``auc`` over pairs of reconstructions of an original by two models."""
    n_models: int
    n_images: int


def agreement(
    scores: np.ndarray,
    human: np.ndarray,
    *,
    higher_is_closer: bool,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Compare a metric with people on reconstructions of the same images by several models.

    ``scores`` (models, images) holds the values of the metric, ``human`` (models, images) the share
    of people, in [0, 1], who recognise each reconstruction. Models are compared by their means; a
    reconstruction counts as recognised if more than half of the people recognise it. Correlations are
    positive if metric and people agree, whichever way the metric is oriented.

    Intervals are percentiles of a bootstrap that draws models and, independently, images, since both
    are samples (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007); resamples in
    which a value is not defined, for example because they hold only one model, are left out. The same
    ``seed`` draws the same resamples for every metric. Raises ``ValueError`` if the shapes differ, an
    array is empty or a value is not finite.
    """
    _require_table(scores, human)
    closeness = np.asarray(scores, np.float64) * (1 if higher_is_closer else -1)
    recognised = np.asarray(human) > 0.5
    n_models, n_images = closeness.shape
    rng = np.random.default_rng(seed)
    models, images = (_with_sample(_draws(n, resamples, rng)) for n in (n_models, n_images))
    means = [images @ values.T / n_images for values in (closeness, np.asarray(human, np.float64))]
    values = {
        **_correlations(*means, models),
        "auc": _auc(closeness, recognised, models, images),
        "auc_within": _auc_within(closeness, recognised, models, images),
    }
    estimates = {name: _estimate(sampled) for name, sampled in values.items()}
    return Agreement(**estimates, n_models=n_models, n_images=n_images)


def _require_table(scores: np.ndarray, human: np.ndarray) -> None:
    if scores.ndim != 2 or scores.shape != human.shape or scores.size == 0:
        raise ValueError(f"scores {scores.shape} and people {human.shape} must be (models, images)")
    if not (np.isfinite(scores).all() and np.isfinite(human).all()):
        raise ValueError("scores or people's shares are not finite")


def _draws(n: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``n`` of ``n`` with replacement and return the counts: (resamples, n) float64."""
    return rng.multinomial(n, np.full(n, 1 / n), resamples).astype(np.float64)


def _with_sample(counts: np.ndarray) -> np.ndarray:
    """Insert a first row of ones, which stands for the sample itself."""
    return np.insert(counts, 0, 1, axis=0)


def _estimate(values: np.ndarray) -> Estimate:
    """Return the value of the sample (first entry) with the interval from its resamples (the rest)."""
    own, known = float(values[0]), values[1:][np.isfinite(values[1:])]
    if not np.isfinite(own) or len(known) == 0:
        return Estimate(own)
    return Estimate(own, *percentile_bounds(known).tolist())


def _blocks(rows: int, cells: int) -> Iterator[slice]:
    """Split ``rows`` rows of ``cells`` numbers each into slices that fit into memory."""
    step = max(1, _CELLS_AT_ONCE // cells)
    return (slice(first, first + step) for first in range(0, rows, step))


def _correlations(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return Pearson's, Spearman's and Kendall's coefficient of each row, (rows,) each.

    ``x`` and ``y`` (rows, models) are values; ``counts`` (rows, models) says how often each model was
    drawn.
    """
    parts = [
        _general_correlations(x[block], y[block], counts[block])
        for block in _blocks(len(x), x.shape[1] ** 2)
    ]
    together = np.concatenate(parts, axis=1)
    return dict(zip(("pearson", "spearman", "kendall"), together, strict=True))


def _general_correlations(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the three coefficients as (3, rows): Pearson, Spearman, Kendall.

    All three are one coefficient of the differences in pairs (Daniels, Biometrika 1944): differences
    of values (Pearson), of ranks (Spearman), or only their signs (Kendall).
    """
    pairs = counts[:, :, None] * counts[:, None]
    differences = _differences(x), _differences(y)
    signs = tuple(map(np.sign, differences))
    # The number of models below minus the number above is twice the mean rank plus a constant.
    ranks = (np.einsum("rij,rj->ri", sign, counts) for sign in signs)
    ranked = map(_differences, ranks)
    kinds = (differences, ranked, signs)
    return np.stack([_coefficient(*compared, pairs) for compared in kinds])


def _differences(values: np.ndarray) -> np.ndarray:
    """Return the differences of all pairs, (rows, n) -> (rows, n, n); exactly 0 for equal values."""
    differences = values[:, :, None] - values[:, None]
    smallest = _ROUNDING * np.abs(values).max(axis=1)[:, None, None]
    return np.where(np.abs(differences) <= smallest, 0, differences)


def _coefficient(a: np.ndarray, b: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return sum(ab) / sqrt(sum(aa) sum(bb)) of each row; NaN if all values are equal."""
    products = ((a, b), (a, a), (b, b))
    ab, aa, bb = (np.einsum("rij,rij,rij->r", pairs, *factors) for factors in products)
    with np.errstate(invalid="ignore"):
        return ab / np.sqrt(aa * bb)


def _auc(
    closeness: np.ndarray, recognised: np.ndarray, models: np.ndarray, images: np.ndarray
) -> np.ndarray:
    """Return ``Agreement.auc`` for each row of counts: (rows,).

    A reconstruction counts as often as its model is drawn times as often as its image is drawn.
    """
    order = np.argsort(closeness, axis=None)
    of_model, of_image = np.unravel_index(order, closeness.shape)
    right = recognised[of_model, of_image]
    # Reconstructions with equal scores form one group: neither of two counts as closer.
    scores = closeness[of_model, of_image]
    first = np.flatnonzero(np.append(True, np.diff(scores) != 0))
    parts = []
    for block in _blocks(len(models), closeness.size):
        counts = models[block][:, of_model] * images[block][:, of_image]
        known = np.add.reduceat(counts * right, first, axis=1)
        unknown = np.add.reduceat(counts * ~right, first, axis=1)
        won = (known * (unknown.cumsum(axis=1) - unknown / 2)).sum(axis=1)
        parts.append(_share(won, known.sum(axis=1) * unknown.sum(axis=1)))
    return np.concatenate(parts)


def _auc_within(
    closeness: np.ndarray, recognised: np.ndarray, models: np.ndarray, images: np.ndarray
) -> np.ndarray:
    """Return ``Agreement.auc_within`` for each row of counts: (rows,)."""
    closeness, recognised = closeness.T, recognised.T
    pairs = recognised[:, :, None] & ~recognised[:, None]
    won = pairs * (1 + np.sign(closeness[:, :, None] - closeness[:, None])) / 2
    counted = (won, pairs * 1.0)
    sums = (np.einsum("ri,imn->rmn", images, values, optimize=True) for values in counted)
    return _share(*(np.einsum("rmn,rm,rn->r", by_models, models, models) for by_models in sums))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return part / whole
